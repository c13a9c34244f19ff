import { useEffect, useState } from "react";
import type { Graph } from "../lib/graph";
import type { Edges, Layout } from "./layout";

/** Where the nodes of a graph stand; null as long as that is not known. */
export function useLayout(graph: Graph): Layout | null {
  const [layout, setLayout] = useState<Layout | null>(null);
  // It depends on what waits for what, and not on how far the tasks are.
  const ids = graph.nodes.map((node) => node.id);
  const shape = JSON.stringify({ ids, edges: graph.edges } satisfies Edges);
  useEffect(() => {
    const worker = new Worker(new URL("./layout.worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<Layout>) => {
      setLayout(data);
      worker.terminate();
    };
    worker.postMessage(JSON.parse(shape));
    return () => worker.terminate();
  }, [shape]);
  return layout;
}
