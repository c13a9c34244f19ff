import { describe, expect, it } from "vitest";
import { parse, plain } from "./ansi";
import { lower, marked } from "./marks";

const E = "\x1b";
const looks = (text: string) => parse(text).map(({ text, ...look }) => [text, look]);

describe("colours", () => {
  it.each([
    ["plain", [["plain", { look: "" }]]],
    ["", []],
    [
      `${E}[31mred${E}[0m not`,
      [
        ["red", { look: "fg-1" }],
        [" not", { look: "" }],
      ],
    ],
    [`${E}[91;104mx`, [["x", { look: "fg-9 bg-12" }]]],
    [
      `${E}[1;3;4;9;2mx${E}[22;23;24;29my`,
      [
        ["x", { look: "bold dim italic underline struck" }],
        ["y", { look: "" }],
      ],
    ],
    [`${E}[mx${E}[1m${E}[my`, [["xy", { look: "" }]]],
    [`${E}[38;5;9mx`, [["x", { look: "fg-9" }]]],
    [`${E}[38;5;196mx`, [["x", { look: "", color: "rgb(255 0 0)" }]]],
    [`${E}[48;5;244mx`, [["x", { look: "", background: "rgb(128 128 128)" }]]],
    [`${E}[38;2;1;2;3;1mx`, [["x", { look: "bold", color: "rgb(1 2 3)" }]]],
    [`${E}[38:2::1:2:3mx`, [["x", { look: "", color: "rgb(1 2 3)" }]]],
    [
      `${E}[38:5:21;4:3mx${E}[4:0my`,
      [
        ["x", { look: "underline", color: "rgb(0 0 255)" }],
        ["y", { look: "", color: "rgb(0 0 255)" }],
      ],
    ],
    [
      `${E}[7mx${E}[27my`,
      [
        ["x", { look: "fg-ground bg-text" }],
        ["y", { look: "" }],
      ],
    ],
    [`${E}[31;7mx`, [["x", { look: "bg-1" }]]],
    [`${E}[31;42;7mx`, [["x", { look: "fg-2 bg-1" }]]],
    [
      `${E}[31;42mx${E}[39;49my`,
      [
        ["x", { look: "fg-1 bg-2" }],
        ["y", { look: "" }],
      ],
    ],
  ])("%j", (text, expected) => expect(looks(text)).toEqual(expected));

  it.each([
    "38;2;1;2",
    "38;2;256;0;0",
    "38;5;300",
    "38;9",
    "48",
    "999",
    "38;2;;;x",
    "?25",
    ">4;1",
    "38;2;1e1;0;0.5",
  ])("%s is no colour", (codes) =>
    expect(parse(`${E}[${codes}mx`).at(-1)).not.toHaveProperty("color"),
  );
});

describe("everything else is dropped", () => {
  it.each([
    [`a${E}[2J${E}[10;10Hb`, "ab"],
    [`${E}]0;title\x07x`, "x"],
    [`${E}]8;;javascript:alert(1)${E}\\the link${E}]8;;${E}\\`, "the link"],
    [`${E}]8;;https://x.example/\x07link${E}]8;;\x07!`, "link!"],
    [`${E}Pq#0;2;0${E}\\x`, "x"],
    [`${E}(Bx${E}cy${E}7z`, "xyz"],
    ["\x9b31mx\x9dtitle\x9cy", "xy"],
    [`${E}[?25lx${E}`, "x"],
    [`x${E}[`, "x"],
    [`x${E}]8;;never ended`, "x"],
    ["a\x00\x07\x08b\tc", "ab\tc"],
    ["10 %\r50 %\r100 %", "100 %"],
    ["kept\r", "kept"],
    ["<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"],
  ])("%j", (text, shown) => {
    expect(
      parse(text)
        .map((piece) => piece.text)
        .join(""),
    ).toBe(shown);
    expect(plain(text)).toBe(shown);
  });
});

it("a line of nothing but colours is bounded, and its text whole", () => {
  const text = Array.from({ length: 20_000 }, (_, i) => `${E}[3${i % 8}mx`).join("");
  const pieces = parse(text);
  expect(pieces.length).toBe(1000);
  expect(pieces.map((piece) => piece.text).join("")).toBe("x".repeat(20_000));
});

it("escapes that never end take no time", () => {
  const before = performance.now();
  parse(`${E}]`.repeat(50_000) + `${E}[1;`.repeat(50_000) + "\x90".repeat(50_000));
  expect(performance.now() - before).toBeLessThan(1000);
});

describe("marks", () => {
  const shown = (text: string, word: string) =>
    marked(parse(text), word).map(({ text, look, hit }) => `${look}${hit ? "!" : ":"}${text}`);
  it.each([
    ["an Error, an ERROR", "error", [":an ", "!Error", ":, an ", "!ERROR"]],
    [`er${E}[31mro${E}[0mr.`, "error", ["!er", "fg-1!ro", "!r", ":."]],
    ["aaaa", "aa", ["!aa", "!aa"]],
    ["nothing", "x", [":nothing"]],
    ["İx and X", "x", [":İ", "!x", ":" + " and ", "!X"]],
  ])("%j by %j", (text, word, expected) => expect(shown(text, word)).toEqual(expected));
  it("lower case of A to Z only", () => expect(lower("AÄİz")).toBe("aÄİz"));
});
