import { useMemo, useState } from "react";
import type { Schema } from "../api/types";
import {
  freshObject,
  type ObjectDraft,
  objectDraftOf,
  objectOf,
  type Problem,
} from "../lib/drafts";
import { formOf } from "../lib/schema";

type Values = Record<string, unknown>;

/** The values of a flow's parameters while they are given: in a form, or as JSON text. */
export function useParameters(schema: Schema | null, before: Values | null) {
  const form = useMemo(() => formOf(schema), [schema]);
  const [start] = useState(() => {
    const empty: ObjectDraft = form === null ? { parts: {}, rest: {} } : freshObject(form);
    const text = before === null ? "" : JSON.stringify(before, null, 2);
    if (form === null) return { draft: empty, json: text };
    if (before === null) return { draft: empty, json: null };
    try {
      return { draft: objectDraftOf(form, before), json: null };
    } catch {
      return { draft: empty, json: text }; // the flow takes something else by now
    }
  });
  const [draft, setDraft] = useState(start.draft);
  const [json, setJson] = useState<string | null>(start.json);
  const [note, setNote] = useState<string | null>(null);

  /** What is given, and what is wrong with it. */
  const read = (): { value: Values | null; problems: Problem[] } => {
    if (json !== null) {
      try {
        const value: unknown = json.trim() === "" ? null : JSON.parse(json);
        return { value: value as Values | null, problems: [] };
      } catch (error) {
        const problem = `is not JSON: ${(error as Error).message}`;
        return { value: null, problems: [{ field: "parameters", problem }] };
      }
    }
    const problems: Problem[] = [];
    const value = form === null ? {} : objectOf(form, draft, "parameters", problems);
    return { value: Object.keys(value).length === 0 ? null : value, problems };
  };

  /** From the form to JSON, or back where the form can show it. */
  const turn = () => {
    setNote(null);
    const { value, problems } = read();
    if (json === null) {
      setJson(JSON.stringify(value ?? {}, null, 2));
      if (problems.length > 0) setNote("What was not right in the form is left out here.");
      return;
    }
    if (form === null) return;
    try {
      if (problems[0] !== undefined) throw new Error(problems[0].problem);
      setDraft(objectDraftOf(form, value ?? {}));
      setJson(null);
    } catch (error) {
      setNote(`The form can't show this: ${(error as Error).message}`);
    }
  };

  return { form, draft, setDraft, json, setJson, note, read, turn };
}
