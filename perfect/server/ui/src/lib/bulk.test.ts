import { expect, it } from "vitest";
import { toEach } from "./bulk";

it("does it to each, and tells what failed", async () => {
  const seen: number[] = [];
  let done = 0;
  const failures = await toEach(
    [1, 2, 3, 4, 5, 6],
    (n) => `no. ${n}`,
    async (n) => {
      seen.push(n);
      if (n % 3 === 0) throw new Error("refused");
    },
    (n) => {
      done = n;
    },
  );
  expect(seen.sort()).toEqual([1, 2, 3, 4, 5, 6]);
  expect(done).toBe(6);
  expect(failures.map(({ label }) => label).sort()).toEqual(["no. 3", "no. 6"]);
});

it("takes nothing, too", async () => expect(await toEach([], String, async () => 1)).toEqual([]));
