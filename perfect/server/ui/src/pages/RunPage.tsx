import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Link } from "wouter";
import { Refused } from "../api/client";
import { run as runQuery } from "../api/queries";
import { type Run, TERMINAL } from "../api/types";
import { feed } from "../feed";
import { Log } from "../log/Log";
import { Answer } from "../parts/Answer";
import { useTitle } from "../parts/title";
import { Facts } from "../run/Facts";
import { Failure } from "../run/Failure";
import { Header } from "../run/Header";
import { TaskSection } from "../run/TaskSection";
import { useChosenTask } from "../run/useChosenTask";
import { useTasks } from "../run/useTasks";
import "../run/run.css";

export function RunPage({ id }: { id: string }) {
  // An id is given once: what is unknown, or was deleted, stays so, and is not asked for again.
  const [unknown, setUnknown] = useState(false);
  const found = useQuery({ ...runQuery(id), enabled: !unknown });
  if (!unknown && found.error instanceof Refused && found.error.status === 404) setUnknown(true);
  useEffect(() => {
    // of a run that is not there, there is no stream
    feed.follow(unknown ? null : id);
    return () => feed.follow(null);
  }, [id, unknown]);
  if (unknown) return <Unknown id={id} />;
  return <Answer of={found}>{(run) => <Whole run={run} said={found.dataUpdatedAt} />}</Answer>;
}

function Unknown({ id }: { id: string }) {
  useTitle("No such run");
  return (
    <div className="notice">
      <h1>There is no such run</h1>
      <p className="wrap">
        Nothing is known of <code>{id}</code>: it was deleted, or its address is not quite right.
      </p>
      <Link href="/history" className="button">
        To the history
      </Link>
    </div>
  );
}

/** @param said when the backend said so. */
function Whole({ run, said }: { run: Run; said: number }) {
  useTitle(`${run.state === "RUNNING" ? "▶ " : ""}${run.flowName}`);
  const tasks = useTasks(run);
  const [chosen, choose] = useChosenTask();
  return (
    <div className="stack">
      <Header run={run} said={said} tasks={tasks.all} />
      {run.state !== "COMPLETED" && TERMINAL.has(run.state) && (
        <Failure run={run} tasks={tasks} choose={choose} />
      )}
      <TaskSection run={run} tasks={tasks} chosen={chosen} choose={choose} />
      <section aria-labelledby="log-title" className="stack">
        <h2 id="log-title">Log</h2>
        {chosen === null ? <Log id={run.id} /> : <Log id={run.id} task={chosen} />}
      </section>
      <Facts run={run} />
    </div>
  );
}
