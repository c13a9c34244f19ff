import type { AriaAttributes } from "react";
import type { Draft } from "../lib/drafts";
import { ZONE } from "../lib/format";
import { hasZone, localOf, utcOf } from "../lib/moment";
import type { Field } from "../lib/schema";

interface Props<F> {
  id?: string;
  field: F;
  draft: Draft;
  change: (draft: Draft) => void;
  said: AriaAttributes;
}

/** The control for one simple value. */
export function Input({ id, field, draft, change, said }: Props<Field>) {
  const text = typeof draft === "string" ? draft : "";
  const common = { ...said, ...(id === undefined ? {} : { id }) };
  switch (field.kind) {
    case "boolean":
      return (
        <select {...common} value={text} onChange={(event) => change(event.target.value)}>
          <Nothing of={field} chosen={text} />
          <option value="true">true</option>
          <option value="false">false</option>
        </select>
      );
    case "choice":
      return (
        <select {...common} value={text} onChange={(event) => change(event.target.value)}>
          <Nothing of={field} chosen={text} />
          {field.options.map((option, at) => (
            <option key={JSON.stringify(option)} value={at}>
              {typeof option === "string" ? option : JSON.stringify(option)}
            </option>
          ))}
        </select>
      );
    case "date-time":
      return <Moment {...common} text={text} change={change} />;
    case "date":
      return (
        <input
          {...common}
          type="date"
          value={text.slice(0, 10)}
          onChange={(event) => change(event.target.value)}
        />
      );
    case "json":
      return (
        <textarea
          {...common}
          className="mono"
          rows={Math.min(8, text.split("\n").length + 1)}
          spellCheck={false}
          value={text}
          onChange={(event) => change(event.target.value)}
        />
      );
    default:
      return (
        <input
          {...common}
          type={field.secret ? "password" : "text"}
          autoComplete={field.secret ? "new-password" : "off"}
          inputMode={field.kind !== "number" ? "text" : field.whole ? "numeric" : "decimal"}
          value={text}
          onChange={(event) => change(event.target.value)}
        />
      );
  }
}

/** "Not given", where that may be chosen or nothing else is chosen yet. */
function Nothing({ of, chosen }: { of: Field; chosen: string }) {
  if (of.default !== undefined && of.default !== null && !of.nullable && chosen !== "") return null;
  return <option value="">–</option>;
}

/** A time by the viewer's clock, or one that belongs to no zone. */
function Moment({
  text,
  change,
  ...common
}: { id?: string; text: string; change: (draft: Draft) => void } & AriaAttributes) {
  const floating = text !== "" && !hasZone(text);
  const local = localOf(text);
  const put = (shown: string, free: boolean) => change(free ? shown : utcOf(shown));
  return (
    <span className="row">
      <input
        {...common}
        type="datetime-local"
        step="1"
        value={local}
        onChange={(event) => put(event.target.value, floating)}
      />
      <select
        aria-label="zone"
        value={floating ? "free" : "zone"}
        onChange={(event) => put(local, event.target.value === "free")}
      >
        <option value="zone">{ZONE}</option>
        <option value="free">without a zone</option>
      </select>
    </span>
  );
}
