import { expect, it } from "vitest";
import { laidOut, UNTANGLED } from "./layout";
import { NODE } from "./node";
import { ranked } from "./ranks";

it("puts every node right of what it waits for, none above another", () => {
  const layout = ranked({
    ids: [0, 1, 2, 3, 4],
    edges: [
      [0, 1],
      [0, 2],
      [1, 3],
      [2, 3],
      [0, 3],
    ],
  });
  const at = (id: number) => layout.places.get(id) ?? { x: 0, y: 0 };
  for (const [from, to] of [
    [0, 1],
    [1, 3],
    [2, 3],
    [0, 3],
  ] as const)
    expect(at(to).x).toBeGreaterThanOrEqual(at(from).x + NODE.width);
  expect(Math.abs(at(1).y - at(2).y)).toBeGreaterThanOrEqual(NODE.height);
  expect(Math.abs(at(0).y - at(4).y)).toBeGreaterThanOrEqual(NODE.height);
  for (const { x, y } of layout.places.values()) {
    expect(x + NODE.width / 2).toBeLessThan(layout.width);
    expect(y + NODE.height / 2).toBeLessThan(layout.height);
  }
  expect(layout.paths.every(({ d }) => d.startsWith("M"))).toBe(true);
});

it("shows even what can't be: tasks that wait for each other", () => {
  const layout = ranked({
    ids: [0, 1, 2],
    edges: [
      [1, 2],
      [2, 1],
    ],
  });
  expect(layout.places.size).toBe(3);
});

it("untangles a graph as long as that is quick", () => {
  const chain = (count: number) => ({
    ids: Array.from({ length: count }, (_, id) => id),
    edges: Array.from({ length: count - 1 }, (_, id): [number, number] => [id, id + 1]),
  });
  expect(laidOut(chain(5)).untangled).toBe(true);
  expect(laidOut(chain(UNTANGLED)).untangled).toBe(false);
});
