import { useQuery } from "@tanstack/react-query";
import { Link } from "wouter";
import { flowStatistics } from "../api/queries";
import type { FlowStatistics } from "../api/types";
import { fullTime, time } from "../lib/format";
import { Answer } from "../parts/Answer";
import { Find, has, useFind } from "../parts/Find";
import { useTitle } from "../parts/title";
import { type Column, Numbers } from "./Numbers";
import "./statistics.css";

export function StatisticsPage() {
  useTitle("Statistics");
  const found = useQuery(flowStatistics);
  return (
    <div className="stack">
      <div className="head">
        <h1>Statistics</h1>
        <span className="spacer" />
        <Find label="Find a flow" />
      </div>
      <Answer of={found}>{(flows) => <Flows flows={flows} />}</Answer>
    </div>
  );
}

function Flows({ flows }: { flows: FlowStatistics[] }) {
  const text = useFind();
  if (flows.length === 0) {
    return (
      <p className="notice">
        No flows yet, so nothing to count. <Link href="/">The library</Link> says how to begin.
      </p>
    );
  }
  const shown = flows.filter((flow) => has(text, flow.flowName, flow.clientId));
  if (shown.length === 0) return <p className="notice">No flow has “{text}” in its name.</p>;
  return (
    <Numbers
      label="flows"
      rows={shown}
      first={nameOf(new Set(shown.map((flow) => flow.clientId)).size > 1)}
      last={[LAST]}
      id={(flow) => flow.flowId}
    />
  );
}

const nameOf = (withClient: boolean): Column<FlowStatistics> => ({
  name: "Flow",
  value: (flow) => flow.flowName,
  cell: (flow) => (
    <>
      <Link href={`/flows/${encodeURIComponent(flow.flowName)}`}>{flow.flowName}</Link>
      {withClient && <span className="quiet"> {flow.clientId}</span>}
    </>
  ),
});

const LAST: Column<FlowStatistics> = {
  name: "Last run",
  value: (flow) => (flow.lastRun === null ? null : Date.parse(flow.lastRun)),
  cell: (flow) => (
    <span title={flow.lastRun === null ? undefined : fullTime(flow.lastRun)}>
      {time(flow.lastRun)}
    </span>
  ),
};
