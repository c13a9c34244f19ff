/** A run of a graph flow as nodes and edges; the elements of a mapped task are one node. */

import type { State, Task } from "../api/types";
import { counted } from "./tasks";

export interface GraphNode {
  id: number;
  name: string;
  tasks: Task[];
  state: State;
}

export interface Graph {
  nodes: GraphNode[];
  /** Pairs of ids of nodes. */
  edges: [number, number][];
}

/** What a node with several tasks is: the first of these that one of them is. */
const FIRST: State[] = [
  "FAILED",
  "RUNNING",
  "RETRYING",
  "CANCELLED",
  "PENDING",
  "COMPLETED",
  "SKIPPED",
];

/** Whether tasks wait for others: only then there is a graph to show. */
export function isGraph(tasks: Task[]): boolean {
  return tasks.some((task) => task.upstream !== null && task.upstream.length > 0);
}

export function graphOf(tasks: Task[]): Graph {
  const groups = new Map<string, Task[]>();
  const groupOf = new Map<number, string>();
  for (const task of tasks) {
    const key =
      task.mapIndex === null
        ? String(task.index)
        : `${(task.upstream ?? []).join(",")} ${task.taskName}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [task]);
    else group.push(task);
    groupOf.set(task.index, key);
  }
  const ids = new Map([...groups].map(([key, group]) => [key, group[0]?.index ?? 0]));
  const seen = new Set<string>();
  const edges: [number, number][] = [];
  for (const task of tasks) {
    const to = ids.get(groupOf.get(task.index) ?? "");
    for (const index of task.upstream ?? []) {
      const from = ids.get(groupOf.get(index) ?? "");
      if (from === undefined || to === undefined || from === to) continue;
      if (seen.has(`${from} ${to}`)) continue;
      seen.add(`${from} ${to}`);
      edges.push([from, to]);
    }
  }
  const nodes = [...groups.values()].map((group) => nodeOf(group));
  return { nodes, edges };
}

function nodeOf(tasks: Task[]): GraphNode {
  const [first] = tasks as [Task];
  const counts = counted(tasks);
  const state = FIRST.find((one) => counts[one] !== undefined) ?? first.state;
  const name = tasks.length === 1 ? first.taskName : `${first.taskName} × ${tasks.length}`;
  return { id: first.index, name, tasks, state };
}
