import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { ask } from "../api/client";
import { type Run, TERMINAL } from "../api/types";
import { count } from "../lib/format";
import { Bulk } from "../parts/Bulk";
import { type Chosen, MOST } from "./useChoice";

interface Action {
  verb: string;
  danger: boolean;
  /** Whether it is for runs that are over. */
  over: boolean;
  left: string;
  request: (run: Run) => Promise<unknown>;
}

const at = (run: Run) => `/api/runs/${encodeURIComponent(run.id)}`;

const ACTIONS: readonly Action[] = [
  {
    verb: "Delete",
    danger: true,
    over: true,
    left: "not over, and stay",
    request: (run) => ask(at(run), { method: "DELETE" }),
  },
  {
    verb: "Cancel",
    danger: true,
    over: false,
    left: "over already",
    request: (run) => ask(`${at(run)}/cancel`, { method: "POST", body: {} }),
  },
  {
    verb: "Run again",
    danger: false,
    over: true,
    left: "not over, and go on",
    request: (run) => ask(`${at(run)}/retry`, { method: "POST", body: {} }),
  },
];

/**
 * What can be done with the chosen runs; there only while some are.
 *
 * @param more whether there are others that match.
 */
export function Actions({ chosen, more }: { chosen: Chosen; more: boolean }) {
  const queries = useQueryClient();
  // The runs are kept as they were when it was asked: a list goes on changing.
  const [asking, setAsking] = useState<{ action: Action; runs: Run[]; others: number } | null>(
    null,
  );
  const all = useMutation({ mutationFn: chosen.all });
  const { runs } = chosen;
  const fitting = (action: Action) => runs.filter((run) => TERMINAL.has(run.state) === action.over);
  const close = (done: boolean) => {
    setAsking(null);
    if (!done) return;
    chosen.clear();
    void queries.invalidateQueries({ queryKey: ["runs"] });
  };
  if (runs.length === 0 && asking === null) return null;
  return (
    <section className="row actions" aria-label="chosen runs">
      <b role="status">{count(runs.length, "run")} selected</b>
      {ACTIONS.map((action) => {
        const able = fitting(action);
        return (
          <button
            key={action.verb}
            type="button"
            className={action.danger ? "danger" : ""}
            disabled={able.length === 0}
            onClick={() => setAsking({ action, runs: able, others: runs.length - able.length })}
          >
            {action.verb}
            {able.length > 0 && able.length < runs.length && ` ${able.length}`}
          </button>
        );
      })}
      <span className="spacer" />
      {more && (
        <button
          type="button"
          className="plain"
          disabled={all.isPending}
          title={`the newest ${MOST.toLocaleString("en")} at most`}
          onClick={() => all.mutate()}
        >
          {all.isPending ? "Selecting …" : "Select all that match"}
        </button>
      )}
      <button type="button" className="plain" onClick={chosen.clear}>
        Select none
      </button>
      {runs.length === MOST && (
        <p className="warning">⚠ The newest {MOST.toLocaleString("en")}: no more at once.</p>
      )}
      {all.error !== null && <p role="alert">{all.error.message}</p>}
      {asking !== null && (
        <Bulk
          title={`${asking.action.verb}: ${count(asking.runs.length, "run")}?`}
          verb={`${asking.action.verb} ${count(asking.runs.length, "run")}`}
          danger={asking.action.danger}
          items={asking.runs}
          label={(run) => `${run.flowName} ${run.id.slice(0, 8)}`}
          act={asking.action.request}
          close={close}
        >
          {asking.action.verb === "Delete" && <p>Their tasks, logs and reports go with them.</p>}
          {asking.others > 0 && (
            <p className="quiet">
              {count(asking.others, "other")} of those selected: {asking.action.left}.
            </p>
          )}
        </Bulk>
      )}
    </section>
  );
}
