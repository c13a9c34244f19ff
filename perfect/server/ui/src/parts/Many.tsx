import { type ReactNode, useState } from "react";

/** The first of many, and more on demand. */
export function Many<T>({
  of,
  step,
  children,
}: {
  of: readonly T[];
  step: number;
  children: (shown: readonly T[]) => ReactNode;
}) {
  const [shown, show] = useState(step);
  return (
    <>
      {children(of.slice(0, shown))}
      {shown < of.length && (
        <button type="button" onClick={() => show(shown + step)}>
          Show more ({(of.length - shown).toLocaleString("en")})
        </button>
      )}
    </>
  );
}
