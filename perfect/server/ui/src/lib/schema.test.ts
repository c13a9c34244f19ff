import { describe, expect, it } from "vitest";
import type { Schema } from "../api/types";
import { draftOf, freshObject, NotInForm, objectDraftOf, objectOf, unmasked } from "./drafts";
import { fieldOf, formOf } from "./schema";

const kind = (schema: Schema, defs = {}) => fieldOf(schema, defs, 1).kind;

function form(properties: Record<string, Schema>, required: string[] = [], $defs = {}) {
  const made = formOf({ type: "object", properties, required, $defs });
  if (made === null) throw new Error("no form");
  return made;
}

function send(of: ReturnType<typeof form>, parts: Parameters<typeof objectOf>[1]["parts"] = {}) {
  const problems: { field: string; problem: string }[] = [];
  const draft = freshObject(of);
  const value = objectOf(
    of,
    { ...draft, parts: { ...draft.parts, ...parts } },
    "parameters",
    problems,
  );
  return { value, problems };
}

describe("fields", () => {
  it.each<[string, Schema, string]>([
    ["text", { type: "string" }, "text"],
    ["whole numbers", { type: "integer" }, "number"],
    ["numbers", { type: "number" }, "number"],
    ["truth", { type: "boolean" }, "boolean"],
    ["an enum", { enum: ["a", 1] }, "choice"],
    ["a const", { const: null }, "choice"],
    ["dates", { type: "string", format: "date" }, "date"],
    ["times", { type: "string", format: "date-time" }, "date-time"],
    ["durations", { type: ["string", "number"], format: "duration" }, "text"],
    ["lists of simple values", { type: "array", items: { type: "integer" } }, "list"],
    ["lists of lists", { type: "array", items: { type: "array" } }, "json"],
    ["tuples", { type: "array", prefixItems: [{ type: "string" }] }, "json"],
    ["objects", { type: "object", properties: { x: { type: "string" } } }, "object"],
    ["mappings", { type: "object", additionalProperties: { type: "integer" } }, "json"],
    ["several kinds", { anyOf: [{ type: "string" }, { type: "integer" }] }, "json"],
    ["anything", {}, "json"],
  ])("%s", (_, schema, wanted) => expect(kind(schema)).toBe(wanted));

  it("knows what may be null", () => {
    for (const schema of [
      { anyOf: [{ type: "integer" }, { type: "null" }] },
      { type: ["integer", "null"] },
    ])
      expect(fieldOf(schema, {}, 1)).toMatchObject({ kind: "number", nullable: true });
    expect(fieldOf({ enum: ["a", null] }, {}, 1)).toMatchObject({
      options: ["a"],
      nullable: true,
    });
  });

  it("follows references, also of what holds itself", () => {
    const Node: Schema = {
      type: "object",
      properties: { next: { anyOf: [{ $ref: "#/$defs/Node" }, { type: "null" }] } },
    };
    expect(kind({ $ref: "#/$defs/Node" }, { Node })).toBe("object");
    expect(kind({ $ref: "#/$defs/A" }, { A: { $ref: "#/$defs/A" } })).toBe("json");
    expect(kind({ $ref: "#/$defs/none" })).toBe("json");
  });

  it("has no form where nothing is known", () => {
    expect(formOf(null)).toBeNull();
    expect(formOf({ type: "object" })).toBeNull();
  });
});

describe("values", () => {
  it("are of their types", () => {
    const all = form({
      text: { type: "string" },
      n: { type: "integer" },
      x: { type: "number" },
      yes: { type: "boolean" },
      one: { enum: ["a", 2] },
      day: { type: "string", format: "date" },
      days: { type: "array", items: { type: "integer" } },
      took: { type: ["string", "number"], format: "duration" },
      any: {},
      inner: { type: "object", properties: { n: { type: "integer" } }, required: ["n"] },
    });
    const parts = {
      text: "7",
      n: "7",
      x: "1e3",
      yes: "false",
      one: "1",
      day: "2026-01-02",
      days: ["1", "2"],
      took: "90",
      any: '{"a": [1]}',
      inner: { parts: { n: "3" }, rest: {} },
    };
    const { value, problems } = send(all, parts);
    expect(problems).toEqual([]);
    expect(value).toEqual({
      text: "7",
      n: 7,
      x: 1000,
      yes: false,
      one: 2,
      day: "2026-01-02",
      days: [1, 2],
      took: 90,
      any: { a: [1] },
      inner: { n: 3 },
    });
    expect(objectDraftOf(all, value).parts).toEqual({
      ...parts,
      x: "1000",
      any: '{\n  "a": [\n    1\n  ]\n}',
    });
  });

  it("are the defaults, until others are given", () => {
    const some = form({
      n: { type: "integer", default: 3 },
      s: { type: "string", default: "x" },
      t: { type: "string" },
      maybe: { anyOf: [{ type: "integer" }, { type: "null" }], default: null },
    });
    expect(send(some).value).toEqual({ n: 3, s: "x" });
    // Cleared: the number is left to the client, the empty text is a value.
    expect(send(some, { n: "", s: "", t: "" }).value).toEqual({ s: "" });
  });

  it("are null where that is what is left", () => {
    const nullable = { anyOf: [{ type: "integer" }, { type: "null" }] };
    expect(send(form({ n: nullable }, ["n"])).value).toEqual({ n: null });
    expect(send(form({ n: { ...nullable, default: 3 } }), { n: "" }).value).toEqual({ n: null });
    expect(send(form({ n: nullable })).value).toEqual({});
  });

  it("keep what the form has no field for", () => {
    const one = form({ n: { type: "integer" } });
    const draft = objectDraftOf(one, { n: 1, more: [2] });
    expect(objectOf(one, draft, "parameters", [])).toEqual({ n: 1, more: [2] });
  });

  it("say where they are wrong", () => {
    const some = form(
      {
        n: { type: "integer", minimum: 1 },
        list: { type: "array", items: { type: "integer" } },
        any: {},
        need: { type: "boolean" },
      },
      ["need"],
    );
    const at = (parts: Record<string, string | string[]>) =>
      send(some, parts).problems.map(({ field }) => field);
    expect(at({})).toEqual(["parameters.need"]);
    expect(at({ need: "true", n: "1.5" })).toEqual(["parameters.n"]);
    expect(at({ need: "true", n: "0" })).toEqual(["parameters.n"]);
    expect(at({ need: "true", n: "9007199254740993" })).toEqual(["parameters.n"]);
    expect(at({ need: "true", list: ["1", "b", ""] })).toEqual([
      "parameters.list[1]",
      "parameters.list[2]",
    ]);
    expect(at({ need: "true", any: "{" })).toEqual(["parameters.any"]);
  });

  it("that fit no field are for the JSON view", () => {
    expect(() => draftOf(fieldOf({ enum: [1] }, {}, 1), 2)).toThrow(NotInForm);
    expect(() => draftOf(fieldOf({ type: "string" }, {}, 1), {})).toThrow(NotInForm);
  });
});

it("leaves out what was masked", () => {
  expect(unmasked({ a: 1, key: "********", in: { token: "********", b: null } })).toEqual({
    value: { a: 1, in: { b: null } },
    masked: 2,
  });
});

it("does not take what every object has for a parameter's value", () => {
  const properties = JSON.parse('{"constructor": {"type": "string"}, "__proto__": {}}');
  const form = formOf({ type: "object", properties });
  if (form === null) throw new Error("there is no form");
  expect(objectDraftOf(form, {}).parts.constructor).toBeUndefined();
  const value = JSON.parse('{"constructor": "a", "__proto__": {"b": 1}}');
  const draft = objectDraftOf(form, unmasked(value).value);
  expect(JSON.stringify(objectOf(form, draft, "parameters", []))).toBe(JSON.stringify(value));
});
