import { useEffect, useState } from "react";
import { useLocation } from "wouter";
import { Dialog } from "./Dialog";

const PLACES: Record<string, [href: string, name: string]> = {
  l: ["/", "Library"],
  h: ["/history", "History"],
  s: ["/schedules", "Schedules"],
  t: ["/statistics", "Statistics"],
  c: ["/clients", "Clients"],
};
const WAIT = 1500; // ms: how long after "g" a letter belongs to it

/** The shortcuts of every page. A page's search is the field with `data-search`. */
export function Keys() {
  const [, go] = useLocation();
  const [help, setHelp] = useState(false);
  useEffect(() => {
    let asked = Number.NEGATIVE_INFINITY; // when "g" was pressed
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
      if (isField(event.target) || document.querySelector("dialog[open]") !== null) return;
      const place = event.timeStamp - asked < WAIT ? PLACES[event.key.toLowerCase()] : undefined;
      asked = event.key === "g" ? event.timeStamp : Number.NEGATIVE_INFINITY;
      if (place !== undefined) go(place[0]);
      else if (event.key === "?") setHelp(true);
      else if (event.key === "/") document.querySelector<HTMLElement>("[data-search]")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [go]);
  return help ? <Help close={() => setHelp(false)} /> : null;
}

function Help({ close }: { close: () => void }) {
  return (
    <Dialog title="Shortcuts" close={close}>
      <dl className="keys">
        <dt>
          <kbd>/</kbd>
        </dt>
        <dd>search on this page</dd>
        {Object.entries(PLACES).map(([key, [, name]]) => (
          <Row key={key} letter={key} name={name} />
        ))}
        <dt>
          <kbd>?</kbd>
        </dt>
        <dd>this help</dd>
        <dt>
          <kbd>Esc</kbd>
        </dt>
        <dd>close a window</dd>
        <dt>
          <kbd>Shift</kbd> + click
        </dt>
        <dd>in the history: select the rows up to this one</dd>
      </dl>
    </Dialog>
  );
}

function Row({ letter, name }: { letter: string; name: string }) {
  return (
    <>
      <dt>
        <kbd>g</kbd> <kbd>{letter}</kbd>
      </dt>
      <dd>to {name}</dd>
    </>
  );
}

function isField(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable ||
      target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=button])"))
  );
}
