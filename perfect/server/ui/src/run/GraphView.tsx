import { type KeyboardEvent, type PointerEvent, useEffect, useMemo, useRef, useState } from "react";
import { count } from "../lib/format";
import type { Graph, GraphNode } from "../lib/graph";
import { counted } from "../lib/tasks";
import { ICONS } from "../parts/State";
import "./graph.css";
import type { Layout } from "./layout";
import { NODE } from "./node";
import type { Choose } from "./useChosenTask";
import { useLayout } from "./useLayout";

const [LEAST, MOST, STEP] = [0.1, 2, 1.25];
// as small as it can still be read
const READABLE = 0.6;

interface Given {
  graph: Graph;
  chosen: number | null;
  choose: Choose;
}

/** A graph flow's tasks and what waits for what; it is moved by scrolling, dragging and keys. */
export default function GraphView(given: Given) {
  const layout = useLayout(given.graph);
  return layout === null ? (
    <p className="notice" role="status">
      Laying out {count(given.graph.nodes.length, "node")} …
    </p>
  ) : (
    <Drawing {...given} layout={layout} />
  );
}

function Drawing({ graph, layout, chosen, choose }: Given & { layout: Layout }) {
  const box = useRef<HTMLDivElement>(null);
  const before = useMemo(() => namesBefore(graph), [graph]);
  const [scale, setScale] = useState<number | null>(null);
  const zoom = (by: number) => setScale((old) => Math.min(MOST, Math.max(LEAST, (old ?? 1) * by)));
  const fitIn = (least = LEAST) => {
    const room = (box.current?.clientWidth ?? layout.width) / layout.width;
    setScale(Math.min(1, Math.max(least, room)));
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: once for each shape
  useEffect(() => fitIn(READABLE), [layout]);
  useWheel(box, zoom);
  const drag = useDrag(box);
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") zoom(STEP);
    else if (event.key === "-") zoom(1 / STEP);
    else if (event.key === "0") fitIn();
    else return;
    event.preventDefault();
  };
  const size = scale ?? 1;
  return (
    <div className="panel graph">
      <div className="row graph-tools">
        <button type="button" aria-label="zoom out" onClick={() => zoom(1 / STEP)}>
          −
        </button>
        <span className="mono">{Math.round(size * 100)} %</span>
        <button type="button" aria-label="zoom in" onClick={() => zoom(STEP)}>
          +
        </button>
        <button type="button" onClick={() => fitIn()}>
          Fit
        </button>
        <span className="quiet graph-help">
          drag to move · + and − to zoom · 0 to fit
          {!layout.untangled && " · so large that it is drawn by ranks, not untangled"}
        </span>
      </div>
      <section
        ref={box}
        className="graph-box"
        aria-label={`graph of the tasks, ${graph.nodes.length} nodes`}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it is scrolled and zoomed by keys
        tabIndex={0}
        onKeyDown={onKeyDown}
        {...drag}
      >
        {/* biome-ignore lint/a11y/noSvgWithoutTitle: what it is in has the label */}
        <svg
          width={layout.width * size}
          height={layout.height * size}
          viewBox={`0 0 ${layout.width} ${layout.height}`}
        >
          <defs>
            <marker
              id="arrow"
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerWidth="7"
              markerHeight="7"
              orient="auto"
            >
              <path d="M0 0L8 4L0 8z" />
            </marker>
          </defs>
          {layout.paths.map(({ key, d }) => (
            <path key={key} className="edge" d={d} markerEnd="url(#arrow)" />
          ))}
          {graph.nodes.map((node) => (
            <Node key={node.id} {...{ node, layout, chosen, choose }} after={before.get(node.id)} />
          ))}
        </svg>
      </section>
    </div>
  );
}

const NAMED = 5;

/** What every node waits for, in words: the edges of those who don't see them. */
function namesBefore(graph: Graph): Map<number, string> {
  const names = new Map(graph.nodes.map(({ id, name }) => [id, name]));
  const lists = new Map<number, string[]>();
  for (const [from, to] of graph.edges) {
    const list = lists.get(to) ?? [];
    lists.set(to, list);
    list.push(names.get(from) ?? "");
  }
  const words = (list: string[]) =>
    list.length <= NAMED
      ? list.join(", ")
      : `${list.slice(0, NAMED).join(", ")} and ${count(list.length - NAMED, "other")}`;
  return new Map([...lists].map(([id, list]) => [id, words(list)]));
}

function Node({
  node,
  layout,
  after,
  chosen,
  choose,
}: {
  node: GraphNode;
  layout: Layout;
  /** What it waits for. */
  after: string | undefined;
  chosen: number | null;
  choose: Choose;
}) {
  const place = layout.places.get(node.id);
  if (place === undefined) return null;
  const open = () =>
    choose((node.tasks.find((task) => task.state === node.state) ?? node.tasks[0])?.index ?? null);
  const words = wordsOf(node);
  const is = node.tasks.some((task) => task.index === chosen);
  return (
    // biome-ignore lint/a11y/useSemanticElements: SVG has no buttons
    <g
      className="node"
      data-state={node.state}
      data-chosen={is}
      role="button"
      tabIndex={0}
      aria-label={`${node.name}: ${words}${after === undefined ? "" : `, after ${after}`}`}
      aria-pressed={is}
      transform={`translate(${place.x - NODE.width / 2} ${place.y - NODE.height / 2})`}
      onClick={open}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        open();
      }}
    >
      <title>{node.name}</title>
      <rect width={NODE.width} height={NODE.height} rx="9" />
      <text x="12" y="21">
        {short(node.name, 23)}
      </text>
      <text x="12" y="41" className="node-state">
        {ICONS[node.state]} {short(words, 24)}
      </text>
    </g>
  );
}

function wordsOf(node: GraphNode): string {
  if (node.tasks.length === 1) return node.state;
  const counts = Object.entries(counted(node.tasks));
  return counts.length === 1
    ? node.state
    : `${counts.find(([state]) => state === node.state)?.[1]} ${node.state} of ${node.tasks.length}`;
}

function short(text: string, longest: number): string {
  const letters = [...text];
  return letters.length <= longest ? text : `${letters.slice(0, longest - 1).join("")}…`;
}

/** With Ctrl, the wheel zooms. */
function useWheel(box: React.RefObject<HTMLElement | null>, zoom: (by: number) => void): void {
  const latest = useRef(zoom);
  latest.current = zoom;
  useEffect(() => {
    const element = box.current;
    const onWheel = (event: WheelEvent) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      latest.current(event.deltaY < 0 ? STEP : 1 / STEP);
    };
    element?.addEventListener("wheel", onWheel, { passive: false });
    return () => element?.removeEventListener("wheel", onWheel);
  }, [box]);
}

/** A mouse drags what a finger scrolls. */
function useDrag(box: React.RefObject<HTMLElement | null>) {
  const from = useRef<{ x: number; y: number } | null>(null);
  return {
    onPointerDown: (event: PointerEvent) => {
      if (event.pointerType === "mouse" && event.button === 0)
        from.current = { x: event.clientX, y: event.clientY };
    },
    onPointerMove: (event: PointerEvent) => {
      const element = box.current;
      if (from.current === null || element === null) return;
      if (event.buttons === 0) {
        from.current = null;
        return;
      }
      element.scrollLeft += from.current.x - event.clientX;
      element.scrollTop += from.current.y - event.clientY;
      from.current = { x: event.clientX, y: event.clientY };
    },
    onPointerUp: () => {
      from.current = null;
    },
  };
}
