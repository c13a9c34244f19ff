import type { State } from "../api/types";
import type { Order } from "../lib/tasks";
import { StateMark } from "../parts/State";

export type View = "timeline" | "graph";

const STATES: State[] = [
  "FAILED",
  "RUNNING",
  "RETRYING",
  "PENDING",
  "COMPLETED",
  "SKIPPED",
  "CANCELLED",
];

interface Given {
  counts: Partial<Record<State, number>>;
  states: ReadonlySet<State>;
  setStates: (states: ReadonlySet<State>) => void;
  text: string;
  setText: (text: string) => void;
  order: Order;
  setOrder: (order: Order) => void;
  view: View;
  setView: (view: View) => void;
  /** Whether there is a graph to show. */
  graph: boolean;
}

/** Which tasks are shown, and how. */
export function Toolbar(given: Given) {
  const { counts, states, setStates, text, setText, order, setOrder, view, setView, graph } = given;
  const toggle = (state: State) => {
    const changed = new Set(states);
    if (!changed.delete(state)) changed.add(state);
    setStates(changed);
  };
  const present = STATES.filter((state) => counts[state] !== undefined || states.has(state));
  return (
    <div className="row task-tools">
      {graph && (
        <fieldset className="switch">
          <legend className="visually-hidden">show the tasks as</legend>
          {(["timeline", "graph"] as const).map((one) => (
            <button
              key={one}
              type="button"
              aria-pressed={view === one}
              onClick={() => setView(one)}
            >
              {one}
            </button>
          ))}
        </fieldset>
      )}
      {view === "timeline" && present.length > 0 && (
        <>
          <fieldset className="switch">
            <legend className="visually-hidden">only tasks in these states</legend>
            {present.map((state) => (
              <button
                key={state}
                type="button"
                aria-pressed={states.has(state)}
                onClick={() => toggle(state)}
              >
                <StateMark state={state} />{" "}
                <span className="mono">{(counts[state] ?? 0).toLocaleString("en")}</span>
              </button>
            ))}
          </fieldset>
          <input
            type="search"
            aria-label="part of a task's name"
            placeholder="name …"
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
          <select
            aria-label="order of the tasks"
            value={order}
            onChange={(event) => setOrder(event.target.value as Order)}
          >
            <option value="called">as called</option>
            <option value="started">as started</option>
            <option value="longest">longest first</option>
          </select>
        </>
      )}
    </div>
  );
}
