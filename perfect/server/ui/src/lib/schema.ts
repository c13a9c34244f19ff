/** The form that a flow's parameters get: fields out of JSON Schema. What has no field of its own is JSON text. */

import type { Schema } from "../api/types";

interface Common {
  title?: string;
  description?: string;
  default?: unknown;
  nullable: boolean;
  /** What is typed is not shown, as the schema wishes. */
  secret: boolean;
}

export type Field = Common &
  (
    | { kind: "text"; format?: string; orNumber: boolean }
    | { kind: "number"; whole: boolean; minimum?: number; maximum?: number }
    | { kind: "boolean" }
    | { kind: "choice"; options: unknown[] }
    | { kind: "date" }
    | { kind: "date-time" }
    | { kind: "list"; item: Field }
    | { kind: "object"; parts: Part[] }
    | { kind: "json" }
  );

export type FieldOf<K extends Field["kind"]> = Extract<Field, { kind: K }>;

/** A field that goes by a name. */
export interface Part {
  name: string;
  required: boolean;
  field: Field;
}

const DEEPEST = 5; // objects in objects; what is deeper is JSON text
const SIMPLE: ReadonlySet<Field["kind"]> = new Set([
  "text",
  "number",
  "boolean",
  "choice",
  "date",
  "date-time",
]);

/** The form of a flow's parameters; null: only JSON text will do. */
export function formOf(schema: Schema | null): FieldOf<"object"> | null {
  if (schema === null) return null;
  const field = fieldOf(schema, schema.$defs ?? {}, 0);
  return field.kind === "object" ? field : null;
}

/** @param defs where `$ref` leads to. */
export function fieldOf(given: Schema, defs: Record<string, Schema>, depth: number): Field {
  const { schema, nullable } = solid(given, defs);
  const common: Common = { nullable, secret: schema.writeOnly === true };
  const title = schema.title ?? given.title;
  const description = given.description ?? schema.description;
  const standard = given.default === undefined ? schema.default : given.default;
  if (title !== undefined) common.title = title;
  if (description !== undefined) common.description = description;
  if (standard !== undefined) common.default = standard;
  return { ...common, ...kindOf(schema, defs, depth) } as Field;
}

type Kind<F> = F extends Field ? Omit<F, keyof Common> : never;

function kindOf(schema: Schema, defs: Record<string, Schema>, depth: number): Kind<Field> {
  if (schema.enum !== undefined)
    return { kind: "choice", options: schema.enum.filter((one) => one !== null) };
  if ("const" in schema) return { kind: "choice", options: [schema.const] };
  const types = [schema.type ?? []].flat().filter((type) => type !== "null");
  const type = types[0];
  if (types.length === 2 && types.includes("string") && types.includes("number"))
    return { kind: "text", orNumber: true, ...formatOf(schema) };
  if (types.length !== 1) return { kind: "json" };
  if (type === "string") {
    if (schema.format === "date" || schema.format === "date-time") return { kind: schema.format };
    return { kind: "text", orNumber: false, ...formatOf(schema) };
  }
  if (type === "boolean") return { kind: "boolean" };
  if (type === "integer" || type === "number") {
    const { minimum, maximum } = schema;
    return {
      kind: "number",
      whole: type === "integer",
      ...(minimum === undefined ? {} : { minimum }),
      ...(maximum === undefined ? {} : { maximum }),
    };
  }
  if (type === "array" && schema.items !== undefined && schema.prefixItems === undefined) {
    const item = fieldOf(schema.items, defs, depth + 1);
    return SIMPLE.has(item.kind) ? { kind: "list", item } : { kind: "json" };
  }
  const isObject = type === "object" && schema.properties !== undefined;
  const named = depth === 0 || Object.keys(schema.properties ?? {}).length > 0;
  if (!isObject || !named || depth >= DEEPEST) return { kind: "json" };
  const required = new Set(schema.required ?? []);
  return {
    kind: "object",
    parts: Object.entries(schema.properties ?? {})
      .filter(([, part]) => part.readOnly !== true)
      .map(([name, part]) => ({
        name,
        required: required.has(name),
        field: fieldOf(part, defs, depth + 1),
      })),
  };
}

function formatOf(schema: Schema): { format?: string } {
  return schema.format === undefined ? {} : { format: schema.format };
}

/** A schema without its `$ref`, and without the "or null" that it may have. */
function solid(given: Schema, defs: Record<string, Schema>): { schema: Schema; nullable: boolean } {
  let schema = given;
  let nullable = false;
  for (let step = 0; step < 10; step++) {
    const among = schema.anyOf ?? schema.oneOf;
    if (schema.$ref !== undefined) {
      schema = defs[schema.$ref.replace("#/$defs/", "")] ?? {};
    } else if (among !== undefined) {
      const others = among.filter((one) => one.type !== "null");
      nullable ||= others.length < among.length;
      if (others.length !== 1 || others[0] === undefined) return { schema: {}, nullable };
      schema = others[0];
    } else {
      break;
    }
  }
  nullable ||= Array.isArray(schema.type) && schema.type.includes("null");
  nullable ||= schema.enum?.includes(null) ?? false;
  return { schema, nullable };
}
