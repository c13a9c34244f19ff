/** What a form holds while it is filled in, and the values that it stands for. */

import type { Field, FieldOf } from "./schema";

/** Text as typed; a choice by its position; undefined: not given. */
export type Draft = string | Draft[] | ObjectDraft | undefined;

export interface ObjectDraft {
  parts: Record<string, Draft>;
  /** What the form has no fields for. */
  rest: Record<string, unknown>;
}

/** Where something is wrong, as the backend says it: "parameters.days[0]". */
export interface Problem {
  field: string;
  problem: string;
}

/** A value that the form can't show. */
export class NotInForm extends Error {}

/** The draft of a field before anything is typed. */
export function fresh(field: Field, required: boolean): Draft {
  if (field.default !== undefined) {
    try {
      return draftOf(field, field.default);
    } catch {
      return undefined;
    }
  }
  if (!required || field.nullable) return undefined;
  if (field.kind === "object") return freshObject(field);
  if (field.kind === "list") return [];
  if (field.kind === "choice" && field.options.length === 1) return "0";
  return undefined;
}

export function freshObject(field: FieldOf<"object">): ObjectDraft {
  const parts = field.parts.map((part) => [part.name, fresh(part.field, part.required)]);
  return { parts: Object.fromEntries(parts), rest: {} };
}

/** @throws NotInForm */
export function draftOf(field: Field, value: unknown): Draft {
  if (value === undefined || (value === null && (field.nullable || field.kind !== "json")))
    return undefined;
  switch (field.kind) {
    case "json":
      return JSON.stringify(value, null, 2);
    case "choice": {
      const wanted = JSON.stringify(value);
      const at = field.options.findIndex((one) => JSON.stringify(one) === wanted);
      if (at < 0) throw new NotInForm(`${wanted} is none of the choices`);
      return String(at);
    }
    case "list":
      if (!Array.isArray(value)) throw new NotInForm(`${JSON.stringify(value)} is not a list`);
      return value.map((one) => draftOf(field.item, one));
    case "object":
      return objectDraftOf(field, value);
    default:
      if (typeof value === "object")
        throw new NotInForm(`${JSON.stringify(value)} does not fit a field`);
      return String(value);
  }
}

/** @throws NotInForm */
export function objectDraftOf(field: FieldOf<"object">, value: unknown): ObjectDraft {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new NotInForm(`${JSON.stringify(value)} is not an object`);
  // Not looked up in the object: a parameter may be called like something that every object has.
  const rest = new Map<string, unknown>(Object.entries(value));
  const parts = field.parts.map(({ name, field }) => [name, draftOf(field, rest.get(name))]);
  for (const { name } of field.parts) rest.delete(name);
  return { parts: Object.fromEntries(parts), rest: Object.fromEntries(rest) };
}

/**
 * The value that a draft stands for; undefined: it is not given.
 *
 * @param problems where what is wrong with it is added.
 */
export function read(
  field: Field,
  required: boolean,
  draft: Draft,
  path: string,
  problems: Problem[],
): unknown {
  const wrong = (problem: string): undefined => {
    problems.push({ field: path, problem });
    return undefined;
  };
  const empty = draft === undefined || draft === "";
  // An empty text is a value, where leaving it out would mean another one.
  if (empty && !(field.kind === "text" && draft === "" && !field.nullable && !field.orNumber)) {
    if (field.nullable && (required || (field.default !== undefined && field.default !== null)))
      return null;
    return required ? wrong("is required") : undefined;
  }
  if (Array.isArray(draft)) {
    if (field.kind !== "list") return wrong("is not a list");
    return draft.map((one, at) => read(field.item, true, one, `${path}[${at}]`, problems));
  }
  if (typeof draft === "object") {
    if (field.kind !== "object") return wrong("is not an object");
    return objectOf(field, draft, path, problems);
  }
  const text = draft ?? "";
  switch (field.kind) {
    case "number":
      return numberOf(field, text, wrong);
    case "boolean":
      return text === "true";
    case "choice":
      return field.options[Number(text)];
    case "json":
      try {
        return JSON.parse(text) as unknown;
      } catch (error) {
        return wrong(`is not JSON: ${(error as Error).message}`);
      }
    case "text":
      if (text === "" && !required && (field.default === undefined || field.default === null))
        return undefined;
      return field.orNumber && isNumber(text) ? Number(text) : text;
    default:
      return text;
  }
}

export function objectOf(
  field: FieldOf<"object">,
  draft: ObjectDraft,
  path: string,
  problems: Problem[],
): Record<string, unknown> {
  const given: [string, unknown][] = [];
  for (const part of field.parts) {
    const here = `${path}.${part.name}`;
    const one = read(part.field, part.required, draft.parts[part.name], here, problems);
    if (one !== undefined) given.push([part.name, one]);
  }
  return { ...Object.fromEntries(given), ...draft.rest };
}

function isNumber(text: string): boolean {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text.trim());
}

function numberOf(
  field: FieldOf<"number">,
  text: string,
  wrong: (problem: string) => undefined,
): number | undefined {
  const n = Number(text);
  if (!isNumber(text) || !Number.isFinite(n)) return wrong(`“${text}” is not a number`);
  if (field.whole && !Number.isInteger(n)) return wrong(`“${text}” is not a whole number`);
  if (field.whole && !Number.isSafeInteger(n))
    return wrong("is too large to be sent exactly from here");
  if (field.minimum !== undefined && n < field.minimum)
    return wrong(`is less than ${field.minimum}`);
  if (field.maximum !== undefined && n > field.maximum)
    return wrong(`is more than ${field.maximum}`);
  return n;
}

const MASK = "********"; // what the client puts in place of a secret

/** Values without those that were masked, at whatever depth, and how many these were. */
export function unmasked(value: unknown): { value: unknown; masked: number } {
  if (Array.isArray(value)) {
    const all = value.map(unmasked);
    return {
      value: all.filter((one) => one.value !== undefined).map((one) => one.value),
      masked: all.reduce((sum, one) => sum + one.masked, 0),
    };
  }
  if (typeof value === "object" && value !== null) {
    let masked = 0;
    const kept: [string, unknown][] = [];
    for (const [name, part] of Object.entries(value)) {
      const one = unmasked(part);
      masked += one.masked;
      if (one.value !== undefined) kept.push([name, one.value]);
    }
    return { value: Object.fromEntries(kept), masked };
  }
  const hidden = typeof value === "string" && value.includes(MASK);
  return hidden ? { value: undefined, masked: 1 } : { value, masked: 0 };
}
