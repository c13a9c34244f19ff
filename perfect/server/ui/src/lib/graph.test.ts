import { expect, it } from "vitest";
import type { State, Task } from "../api/types";
import { graphOf, isGraph } from "./graph";

const task = (
  index: number,
  upstream: number[] | null,
  mapIndex: number | null = null,
  state: State = "COMPLETED",
) =>
  ({ index, taskName: mapIndex === null ? `t${index}` : "m", upstream, mapIndex, state }) as Task;

it("is one where a task waits for another", () => {
  expect(isGraph([task(0, null), task(1, [])])).toBe(false);
  expect(isGraph([task(0, []), task(1, [0])])).toBe(true);
});

it("has a node for each task and an edge for each that waits", () => {
  const { nodes, edges } = graphOf([task(0, []), task(1, [0]), task(2, [0, 1])]);
  expect(nodes.map((node) => node.name)).toEqual(["t0", "t1", "t2"]);
  expect(edges).toEqual([
    [0, 1],
    [0, 2],
    [1, 2],
  ]);
});

it("has one node for the elements of a mapped task, as far as the worst of them", () => {
  const { nodes, edges } = graphOf([
    task(0, []),
    task(1, [0], 0),
    task(2, [0], 1, "FAILED"),
    task(3, [1, 2]),
  ]);
  expect(nodes.map(({ id, name, state }) => [id, name, state])).toEqual([
    [0, "t0", "COMPLETED"],
    [1, "m × 2", "FAILED"],
    [3, "t3", "COMPLETED"],
  ]);
  expect(edges).toEqual([
    [0, 1],
    [1, 3],
  ]);
});

it("does not stumble over a task that waits for an unknown one", () => {
  expect(graphOf([task(1, [7])]).edges).toEqual([]);
});
