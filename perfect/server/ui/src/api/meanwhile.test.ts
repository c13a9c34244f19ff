import { expect, it } from "vitest";
import { note, withNews } from "./meanwhile";

const add = (all: number[], one: number) => [...all, one];

it("puts what was told on the way into the answer, in order, and nothing else", async () => {
  note("a", 1);
  let answer: (all: number[]) => void = () => {};
  const all = withNews("a", new Promise<number[]>((done) => (answer = done)), add);
  note("a", 2);
  note("b", 3);
  note("a", 4);
  answer([0]);
  expect(await all).toEqual([0, 2, 4]);
});

it("lets a failure through, and begins anew", async () => {
  const failed = withNews("a", Promise.reject(new Error("no")), add);
  note("a", 1);
  await expect(failed).rejects.toThrow("no");
  expect(await withNews("a", Promise.resolve([0]), add)).toEqual([0]);
});
