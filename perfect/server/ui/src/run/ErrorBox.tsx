import type { Failure } from "../api/types";

/** An error with its traceback folded away. */
export function ErrorBox({ error }: { error: Failure }) {
  const lines = error.traceback?.trimEnd().split("\n") ?? [];
  return (
    <div className="error-box">
      <p className="error-message">
        <b>{error.type}</b>
        {error.message !== "" && `: ${error.message}`}
      </p>
      {lines.length > 0 && (
        <details>
          <summary>Traceback ({lines.length === 1 ? "1 line" : `${lines.length} lines`})</summary>
          <pre>{lines.join("\n")}</pre>
        </details>
      )}
    </div>
  );
}
