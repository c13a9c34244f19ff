import { expect, it } from "vitest";
import { sorted } from "./sorted";

it("sorts numbers and words, and puts nothing last", () => {
  const itself = (value: number | string | null) => value;
  expect(sorted([10, null, 9], itself, false)).toEqual([9, 10, null]);
  expect(sorted([9, null, 10], itself, true)).toEqual([10, 9, null]);
  expect(sorted(["b", "a"], itself, false)).toEqual(["a", "b"]);
});
