import type { State } from "../api/types";

export const ICONS: Record<State, string> = {
  PENDING: "○",
  RUNNING: "▶",
  RETRYING: "↻",
  COMPLETED: "✓",
  FAILED: "✗",
  SKIPPED: "↷",
  CANCELLED: "■",
};

/** A state by icon and word, so that nobody needs its colour. */
export function StateMark({ state, cancelling = false }: { state: State; cancelling?: boolean }) {
  return (
    <span className="state" data-state={state}>
      <span aria-hidden="true">{ICONS[state]}</span> {cancelling ? "CANCELLING" : state}
    </span>
  );
}
