import { useState } from "react";
import { type Failure, toEach } from "../lib/bulk";
import { count } from "../lib/format";
import { Dialog } from "./Dialog";

const SHOWN_FAILURES = 50;

/** Asks whether to do something to several, does it, and reports what failed. */
export function Bulk<T>({
  title,
  verb,
  danger = false,
  ready = true,
  items,
  label,
  act,
  close,
  children,
}: {
  /** The question: it names the number. */
  title: string;
  verb: string;
  danger?: boolean;
  /** Whether all is given that it takes. */
  ready?: boolean;
  items: readonly T[];
  label: (item: T) => string;
  act: (item: T) => Promise<unknown>;
  /** @param done whether it was done. */
  close: (done: boolean) => void;
  children?: React.ReactNode;
}) {
  const [done, setDone] = useState<number | null>(null);
  const [failures, setFailures] = useState<Failure[] | null>(null);
  const start = async () => {
    setDone(0);
    setFailures(await toEach(items, label, act, setDone));
  };
  const asking = done === null;
  return (
    <Dialog title={title} close={() => (asking || failures !== null) && close(!asking)}>
      {asking && children}
      {!asking && (
        <p role="status">
          {failures === null
            ? `${done} of ${items.length} …`
            : `${items.length - failures.length} of ${items.length} done.`}
        </p>
      )}
      {!asking && <progress className="whole" value={done} max={items.length} aria-label={verb} />}
      {failures !== null && failures.length > 0 && (
        <div role="alert">
          <p>{count(failures.length, "refusal")}:</p>
          <ul className="failures">
            {failures.slice(0, SHOWN_FAILURES).map((failure) => (
              <li key={failure.label}>
                <b>{failure.label}</b>: {failure.message}
              </li>
            ))}
          </ul>
          {failures.length > SHOWN_FAILURES && <p>… and more</p>}
        </div>
      )}
      <div className="row end">
        {asking ? (
          <>
            <button type="button" className="plain" onClick={() => close(false)}>
              Leave it
            </button>
            <button
              type="button"
              className={danger ? "danger" : ""}
              disabled={items.length === 0 || !ready}
              onClick={() => void start()}
            >
              {verb}
            </button>
          </>
        ) : (
          <button type="button" disabled={failures === null} onClick={() => close(true)}>
            Close
          </button>
        )}
      </div>
    </Dialog>
  );
}
