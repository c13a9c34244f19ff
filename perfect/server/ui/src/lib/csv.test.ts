import { describe, expect, it } from "vitest";
import { cell, columnsOf, csv, sorted } from "./csv";

it("has the columns of all rows in their order", () => {
  expect(columnsOf([{ b: 1 }, { a: 1, b: 2 }, { c: 3 }])).toEqual(["b", "a", "c"]);
});

it.each([
  [null, ""],
  [undefined, ""],
  [0, "0"],
  [false, "false"],
  [{ a: [1] }, '{"a":[1]}'],
])("%o is shown as %s", (value, text) => expect(cell(value)).toBe(text));

describe("rows in order", () => {
  const values = (rows: Record<string, unknown>[]) => rows.map(({ n }) => n);

  it("are those of numbers by size", () => {
    const rows = [{ n: 10 }, { n: 9 }, {}, { n: -1 }];
    expect(values(sorted(rows, "n", false))).toEqual([-1, 9, 10, undefined]);
    expect(values(sorted(rows, "n", true))).toEqual([10, 9, -1, undefined]);
  });

  it("are those of text as people read it", () => {
    const rows = [{ n: "item 10" }, { n: "item 9" }, { n: null }];
    expect(values(sorted(rows, "n", false))).toEqual(["item 9", "item 10", null]);
  });
});

it("is written as spreadsheets read it", () => {
  const rows = [
    { a: 'say "hi"', b: "x,y" },
    { a: "two\nlines", b: -5 },
  ];
  expect(csv(["a", "b"], rows)).toBe('a,b\r\n"say ""hi""","x,y"\r\n"two\nlines",-5\r\n');
});

it("has no formulas", () => {
  expect(csv(["=x"], [{ "=x": "=1+1" }, { "=x": "@cmd" }])).toBe("'=x\r\n'=1+1\r\n'@cmd\r\n");
  expect(csv(["n"], [{ n: "-2+3" }, { n: "＝1" }])).toBe("n\r\n'-2+3\r\n'＝1\r\n");
});

it("has numbers as they are, also those that are text", () => {
  const numbers = [-5, "-5", "+1.5", "-1e9", -1e30, "-1.234,5"];
  expect(
    csv(
      ["n"],
      numbers.map((n) => ({ n })),
    ),
  ).toBe('n\r\n-5\r\n-5\r\n+1.5\r\n-1e9\r\n-1e+30\r\n"-1.234,5"\r\n');
});

it("does not take what every object has for a column", () => {
  const rows = JSON.parse('[{"constructor": 1, "__proto__": 2}, {}]');
  expect(csv(columnsOf(rows), rows)).toBe("constructor,__proto__\r\n1,2\r\n,\r\n");
  expect(sorted(rows, "__proto__", true)).toEqual(rows);
});
