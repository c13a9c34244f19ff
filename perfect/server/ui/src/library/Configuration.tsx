import { useId, useState } from "react";

const KNOWN = ["development", "debug", "release"];

/** The configuration of a run: one of the usual, or any text. */
export function Configuration({
  value,
  missing = false,
  change,
}: {
  value: string;
  /** It was to be sent without. */
  missing?: boolean;
  change: (value: string) => void;
}) {
  const id = useId();
  const [other, setOther] = useState(!KNOWN.includes(value));
  return (
    <div className="field">
      <label htmlFor={id}>Configuration</label>
      <span className="row">
        <select
          id={id}
          value={other ? "" : value}
          onChange={(event) => {
            setOther(event.target.value === "");
            change(event.target.value);
          }}
        >
          {KNOWN.map((name) => (
            <option key={name}>{name}</option>
          ))}
          <option value="">other …</option>
        </select>
        {other && (
          <input
            aria-label="name of the configuration"
            required
            aria-invalid={missing}
            maxLength={200}
            value={value}
            onChange={(event) => change(event.target.value)}
          />
        )}
      </span>
    </div>
  );
}
