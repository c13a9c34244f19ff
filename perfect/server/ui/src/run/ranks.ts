/** A layout for graphs that are too large to be untangled: by ranks, in a time that grows with their size only. */

import type { Edges, Layout } from "./layout";
import { NODE } from "./node";

// px
const [MARGIN, BESIDE, BELOW] = [16, 60, 18];

/** Every node stands right of all that it waits for, and about as high as they do. */
export function ranked(graph: Edges): Layout {
  const before = new Map<number, number[]>(graph.ids.map((id) => [id, []]));
  const after = new Map<number, number[]>(graph.ids.map((id) => [id, []]));
  for (const [from, to] of graph.edges) {
    before.get(to)?.push(from);
    after.get(from)?.push(to);
  }
  const columns = columnsOf(graph.ids, before, after);
  const step = NODE.height + BELOW;
  const tallest = Math.max(1, ...columns.map((column) => column.length));
  const height = tallest * step - BELOW;
  const places = new Map<number, { x: number; y: number }>();
  columns.forEach((column, rank) => {
    const middle = (id: number) => {
      const ys = (before.get(id) ?? []).map((one) => places.get(one)?.y ?? 0);
      return ys.reduce((sum, y) => sum + y, 0) / Math.max(1, ys.length);
    };
    const keyed = column.map((id) => [middle(id), id] as const).sort(([a], [b]) => a - b);
    const top = MARGIN + (height - (column.length * step - BELOW)) / 2;
    keyed.forEach(([, id], row) => {
      places.set(id, {
        x: MARGIN + NODE.width / 2 + rank * (NODE.width + BESIDE),
        y: top + NODE.height / 2 + row * step,
      });
    });
  });
  return {
    width: 2 * MARGIN + columns.length * (NODE.width + BESIDE) - BESIDE,
    height: 2 * MARGIN + height,
    places,
    paths: graph.edges.map(([from, to]) => ({ key: `${from} ${to}`, d: curve(places, from, to) })),
    untangled: false,
  };
}

/** The nodes by the longest way that leads to them. */
function columnsOf(
  ids: number[],
  before: Map<number, number[]>,
  after: Map<number, number[]>,
): number[][] {
  const waits = new Map(ids.map((id) => [id, before.get(id)?.length ?? 0]));
  const columns: number[][] = [];
  let column = ids.filter((id) => waits.get(id) === 0);
  let placed = 0;
  while (column.length > 0) {
    columns.push(column);
    placed += column.length;
    const next: number[] = [];
    for (const id of column) {
      for (const one of after.get(id) ?? []) {
        const left = (waits.get(one) ?? 0) - 1;
        waits.set(one, left);
        if (left === 0) next.push(one);
      }
    }
    column = next;
  }
  // tasks can't wait for each other; a graph that says so is shown nevertheless
  if (placed < ids.length) columns.push(ids.filter((id) => (waits.get(id) ?? 0) > 0));
  return columns;
}

function curve(places: Map<number, { x: number; y: number }>, from: number, to: number): string {
  const [a, b] = [places.get(from), places.get(to)];
  if (a === undefined || b === undefined) return "";
  const [x, end] = [a.x + NODE.width / 2, b.x - NODE.width / 2];
  const half = (x + end) / 2;
  return `M${x} ${a.y}C${half} ${a.y} ${half} ${b.y} ${end} ${b.y}`;
}
