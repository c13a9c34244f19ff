import { useId } from "react";
import { type Draft, fresh, freshObject, type ObjectDraft, type Problem } from "../lib/drafts";
import type { Field, FieldOf, Part } from "../lib/schema";
import { Input } from "./Input";

interface Place<F extends Field, D> {
  field: F;
  draft: D;
  path: string;
  problems: readonly Problem[];
}

/** The fields of an object, one below the other. */
export function ParameterForm({
  field,
  draft,
  path,
  problems,
  change,
}: Place<FieldOf<"object">, ObjectDraft> & { change: (draft: ObjectDraft) => void }) {
  const others = Object.keys(draft.rest);
  return (
    <div className="fields">
      {field.parts.map((part) => (
        <PartField
          key={part.name}
          part={part}
          draft={draft.parts[part.name]}
          path={`${path}.${part.name}`}
          problems={problems}
          change={(one) => change({ ...draft, parts: { ...draft.parts, [part.name]: one } })}
        />
      ))}
      {others.length > 0 && (
        <p className="quiet">Beside these, given as JSON: {others.join(", ")}</p>
      )}
    </div>
  );
}

function PartField({
  part,
  draft,
  path,
  problems,
  change,
}: {
  part: Part;
  draft: Draft;
  path: string;
  problems: readonly Problem[];
  change: (draft: Draft) => void;
}) {
  const id = useId();
  const { field, name, required } = part;
  // What has fields of its own shows the problems there.
  const inside = field.kind === "list" || field.kind === "object";
  const own = problems.filter((one) =>
    inside ? one.field === path : one.field === path || isBelow(one.field, path),
  );
  const hint = hintOf(field, required);
  const said = {
    "aria-describedby": `${id}-hint`,
    "aria-invalid": own.length > 0,
    "aria-required": required,
  };
  const label = (
    <>
      {name}
      {required && <span className="required"> required</span>}
    </>
  );
  const notes = (
    <span id={`${id}-hint`} className="hint">
      {field.description !== undefined && <span>{field.description}</span>}
      {hint !== "" && <span className="quiet">{hint}</span>}
      {own.map((one) => (
        <span key={one.problem} className="problem">
          ✗ {one.problem}
        </span>
      ))}
    </span>
  );
  if (field.kind === "list" || field.kind === "object") {
    return (
      <fieldset className="field" aria-describedby={`${id}-hint`}>
        <legend>{label}</legend>
        {notes}
        {field.kind === "list" ? (
          <ListField {...{ field, draft, path, problems, change }} name={name} />
        ) : (
          <ObjectField {...{ field, draft, path, problems, change, required }} name={name} />
        )}
      </fieldset>
    );
  }
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <Input id={id} field={field} draft={draft} change={change} said={said} />
      {notes}
    </div>
  );
}

function ListField({
  field,
  draft,
  path,
  problems,
  change,
  name,
}: Place<FieldOf<"list">, Draft> & { change: (draft: Draft) => void; name: string }) {
  const items = Array.isArray(draft) ? draft : [];
  return (
    <>
      {items.map((item, at) => {
        const own = problems.filter((one) => one.field === `${path}[${at}]`);
        return (
          // biome-ignore lint/suspicious/noArrayIndexKey: an element is known by its place only
          <div key={at} className="element">
            <Input
              field={field.item}
              draft={item}
              change={(one) => change(items.with(at, one))}
              said={{ "aria-label": `${name} ${at + 1}`, "aria-invalid": own.length > 0 }}
            />
            <button
              type="button"
              className="plain"
              aria-label={`remove ${name} ${at + 1}`}
              onClick={() => change(items.toSpliced(at, 1))}
            >
              ✕
            </button>
            {own.map((one) => (
              <span key={one.problem} className="problem">
                ✗ {one.problem}
              </span>
            ))}
          </div>
        );
      })}
      <div className="row">
        <button
          type="button"
          className="small"
          onClick={() => change([...items, fresh(field.item, true) ?? ""])}
        >
          + add to {name}
        </button>
        {draft !== undefined && items.length === 0 && <span className="quiet">an empty list</span>}
      </div>
    </>
  );
}

function ObjectField({
  field,
  draft,
  path,
  problems,
  change,
  name,
  required,
}: Place<FieldOf<"object">, Draft> & {
  change: (draft: Draft) => void;
  name: string;
  required: boolean;
}) {
  if (draft === undefined || typeof draft === "string" || Array.isArray(draft)) {
    return (
      <button type="button" className="small" onClick={() => change(freshObject(field))}>
        + give {name}
      </button>
    );
  }
  return (
    <>
      <ParameterForm field={field} draft={draft} path={path} problems={problems} change={change} />
      {(!required || field.nullable) && (
        <button type="button" className="small" onClick={() => change(undefined)}>
          − leave out {name}
        </button>
      )}
    </>
  );
}

/** What a field takes, in words; its default, if it is cleared. */
function hintOf(field: Field, required: boolean): string {
  const words: string[] = [];
  if (field.kind === "number") {
    words.push(field.whole ? "whole number" : "number");
    if (field.minimum !== undefined) words.push(`from ${field.minimum}`);
    if (field.maximum !== undefined) words.push(`to ${field.maximum}`);
  }
  if (field.kind === "text" && field.format !== undefined) words.push(field.format);
  if (field.kind === "json") words.push("as JSON");
  if (field.nullable) words.push("or nothing");
  else if (!required && field.default === undefined) words.push("may be left out");
  if (field.default !== undefined && field.default !== null && field.kind !== "object")
    words.push(`default ${JSON.stringify(field.default)}`);
  return words.join(", ");
}

function isBelow(path: string, above: string): boolean {
  return path.startsWith(above) && /^[.[]/.test(path.slice(above.length));
}
