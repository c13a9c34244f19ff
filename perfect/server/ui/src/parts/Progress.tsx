import type { State } from "../api/types";

/** @param value 0–100. */
export function Progress({ value, state, label }: { value: number; state: State; label: string }) {
  const percent = Math.round(value);
  return (
    <span className="row">
      <span
        className="bar"
        data-state={state}
        role="progressbar"
        aria-valuenow={percent}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-label={label}
      >
        <i style={{ transform: `scaleX(${Math.min(100, Math.max(0, value)) / 100})` }} />
      </span>
      <span className="mono">{percent} %</span>
    </span>
  );
}
