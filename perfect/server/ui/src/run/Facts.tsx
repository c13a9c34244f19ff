import type { ReactNode } from "react";
import { Link } from "wouter";
import type { Run } from "../api/types";

/** What a run was started with, and by whom. */
export function Facts({ run }: { run: Run }) {
  const parameters = Object.entries(run.parameters ?? {});
  const tags = Object.entries(run.tags);
  return (
    <section className="panel stack-small" aria-labelledby="facts-title">
      <h2 id="facts-title">About this run</h2>
      <dl className="facts">
        <Fact name="Configuration">{run.configuration || "–"}</Fact>
        <Fact name="Parameters">
          {parameters.length === 0
            ? "none"
            : parameters.map(([name, value]) => (
                <div key={name}>
                  <code>
                    {name} = {JSON.stringify(value)}
                  </code>
                </div>
              ))}
        </Fact>
        <Fact name="Tags">
          {tags.length === 0 ? (
            "none"
          ) : (
            <span className="row">
              {tags.map(([name, value]) => (
                <Link
                  key={name}
                  className="tag"
                  href={`/history?tag=${encodeURIComponent(`${name}:${value}`)}`}
                >
                  {name}: {value}
                </Link>
              ))}
            </span>
          )}
        </Fact>
        <Fact name="Client">{run.clientId}</Fact>
        <Fact name="Started by">{TRIGGERS[run.trigger] ?? run.trigger}</Fact>
        {run.parent !== null && (
          <Fact name="Part of">
            <Link href={`/runs/${run.parent}`}>the run {run.parent}</Link>
          </Fact>
        )}
        {run.retryOf !== null && (
          <Fact name="Runs again">
            <Link href={`/runs/${run.retryOf}`}>the run {run.retryOf}</Link>
          </Fact>
        )}
        <Fact name="Id">
          <code>{run.id}</code>
        </Fact>
      </dl>
    </section>
  );
}

const TRIGGERS: Record<string, string> = {
  call: "a call in the client's program",
  request: "a request",
  schedule: "its schedule",
};

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
