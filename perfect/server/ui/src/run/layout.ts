import { Graph as Dagre, layout } from "@dagrejs/dagre";

import { NODE } from "./node";
import { ranked } from "./ranks";

/**
 * Nodes and edges for which dagre is given the time: 1,250 took it 2.3 s, 2,350 took it 5 s (2 cores, busy), and a
 * browser is slower.
 */
export const UNTANGLED = 900;

/** A graph as far as its layout goes by it. */
export interface Edges {
  ids: number[];
  edges: [number, number][];
}

export interface Layout {
  width: number;
  height: number;
  /** Middles of the nodes, by id. */
  places: Map<number, { x: number; y: number }>;
  /** Paths of the edges, as SVG has them. */
  paths: { key: string; d: string }[];
  /** Whether its edges cross as little as could be found. */
  untangled: boolean;
}

export function laidOut(graph: Edges): Layout {
  return graph.ids.length + graph.edges.length > UNTANGLED ? ranked(graph) : untangled(graph);
}

function untangled(graph: Edges): Layout {
  const dagre = new Dagre();
  dagre.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 60, marginx: 16, marginy: 16 });
  dagre.setDefaultEdgeLabel(() => ({}));
  for (const id of graph.ids) dagre.setNode(String(id), { ...NODE });
  for (const [from, to] of graph.edges) dagre.setEdge(String(from), String(to));
  layout(dagre);
  const { width = 0, height = 0 } = dagre.graph();
  const places = new Map(
    graph.ids.map((id) => {
      const { x, y } = dagre.node(String(id)) as { x: number; y: number };
      return [id, { x, y }];
    }),
  );
  const paths = graph.edges.map(([from, to]) => {
    const { points } = dagre.edge(String(from), String(to)) as { points: Point[] };
    return { key: `${from} ${to}`, d: smooth(points) };
  });
  return { width, height, places, paths, untangled: true };
}

interface Point {
  x: number;
  y: number;
}

/** A curve along the points: through the middles between them. */
function smooth(points: Point[]): string {
  const [first, ...rest] = points;
  const last = rest.pop();
  if (first === undefined || last === undefined) return "";
  const parts = [`M${first.x} ${first.y}`];
  rest.forEach((point, at) => {
    const next = rest[at + 1] ?? last;
    const end =
      at === rest.length - 1 ? last : { x: (point.x + next.x) / 2, y: (point.y + next.y) / 2 };
    parts.push(`Q${point.x} ${point.y} ${end.x} ${end.y}`);
  });
  if (rest.length === 0) parts.push(`L${last.x} ${last.y}`);
  return parts.join("");
}
