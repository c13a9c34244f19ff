import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useEffect, useId, useRef, useState } from "react";
import { useLocation } from "wouter";
import { ask, Refused } from "../api/client";
import { run as runQuery } from "../api/queries";
import type { Flow, Run } from "../api/types";
import { type Problem, unmasked } from "../lib/drafts";
import { Answer } from "../parts/Answer";
import { Dialog } from "../parts/Dialog";
import { Configuration } from "./Configuration";
import { ParameterForm } from "./ParameterForm";
import { useParameters } from "./useParameters";

const UNNAMED: Problem = { field: "configuration", problem: "is required" };

/** Asks with what to run a flow; @param from the id of a run whose values it begins with. */
export function RunDialog({
  flow,
  from,
  close,
}: {
  flow: Flow;
  from: string | null;
  close: () => void;
}) {
  return (
    <Dialog title={`Run ${flow.name}`} close={close}>
      {from === null ? <RunForm flow={flow} close={close} /> : <Again {...{ flow, from, close }} />}
    </Dialog>
  );
}

function Again({ flow, from, close }: { flow: Flow; from: string; close: () => void }) {
  const found = useQuery(runQuery(from));
  return <Answer of={found}>{(run) => <RunForm flow={flow} run={run} close={close} />}</Answer>;
}

function RunForm({ flow, run, close }: { flow: Flow; run?: Run; close: () => void }) {
  const [, go] = useLocation();
  const before = unmasked(run?.parameters ?? null);
  const [configuration, setConfiguration] = useState(run?.configuration ?? "development");
  const values = useParameters(flow.parameters, before.value as Run["parameters"]);
  const [problems, setProblems] = useState<readonly Problem[]>([]);
  const jsonId = useId();
  const start = useMutation({
    mutationFn: (parameters: Record<string, unknown> | null) =>
      ask<{ runId: string }>(`/api/engine/trigger/${encodeURIComponent(flow.id)}`, {
        method: "POST",
        body: parameters === null ? { configuration } : { configuration, parameters },
      }),
    onSuccess: ({ runId }) => go(`/runs/${runId}`),
    onError: (error) => setProblems(error instanceof Refused ? problemsOf(error.detail) : []),
  });
  // What is wrong may be out of sight.
  const box = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (problems.length > 0)
      box.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
  }, [problems]);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const { value, problems } = values.read();
    if (configuration.trim() === "") problems.unshift(UNNAMED);
    setProblems(problems);
    if (problems.length === 0) start.mutate(value);
  };
  const { form, draft, json } = values;
  return (
    <form ref={box} onSubmit={submit} className="stack run-form" noValidate>
      {run !== undefined && <p className="quiet">With the values of run {run.id.slice(0, 8)}.</p>}
      {before.masked > 0 && (
        <p className="warning">⚠ A secret of that run is not kept: give it again.</p>
      )}
      {!flow.connected && (
        <p className="warning">⚠ No client that has this flow is connected: the run will wait.</p>
      )}
      <Configuration
        value={configuration}
        missing={problems.includes(UNNAMED)}
        change={setConfiguration}
      />
      <div className="row">
        <h3>Parameters</h3>
        <span className="spacer" />
        {form !== null && form.parts.length > 0 && (
          <button
            type="button"
            className="small"
            onClick={() => {
              setProblems([]);
              values.turn();
            }}
          >
            {json === null ? "as JSON" : "as a form"}
          </button>
        )}
      </div>
      {values.note !== null && <p role="alert">{values.note}</p>}
      {json !== null ? (
        <div className="field">
          <label htmlFor={jsonId} className="visually-hidden">
            parameters as JSON
          </label>
          <textarea
            id={jsonId}
            className="mono"
            rows={Math.min(16, Math.max(5, json.split("\n").length + 1))}
            spellCheck={false}
            placeholder="{}"
            value={json}
            aria-invalid={problems.some((one) => one !== UNNAMED)}
            onChange={(event) => values.setJson(event.target.value)}
          />
          {form === null && (
            <span className="quiet">
              The client has not said what this flow takes: any JSON object, or nothing.
            </span>
          )}
          {problems.map((one) => (
            <span key={one.field + one.problem} className="problem">
              ✗ {one.field}: {one.problem}
            </span>
          ))}
        </div>
      ) : form !== null && form.parts.length === 0 ? (
        <p className="quiet">This flow takes none.</p>
      ) : (
        form !== null && (
          <ParameterForm
            field={form}
            draft={draft}
            path="parameters"
            problems={problems}
            change={values.setDraft}
          />
        )
      )}
      {problems.length > 0 && json === null && (
        <p role="alert">
          {problems[0]?.field}: {problems[0]?.problem}
          {problems.length > 1 && ` (and ${problems.length - 1} more)`}
        </p>
      )}
      {start.error !== null && problems.length === 0 && <p role="alert">{start.error.message}</p>}
      <div className="row end">
        <button type="button" className="plain" onClick={close}>
          Leave it
        </button>
        <button type="submit" disabled={start.isPending}>
          Run
        </button>
      </div>
    </form>
  );
}

/** What the backend says is wrong with the values. */
function problemsOf(detail: unknown): Problem[] {
  if (!Array.isArray(detail)) return [];
  return detail.filter(
    (one): one is Problem => typeof one?.field === "string" && typeof one?.problem === "string",
  );
}
