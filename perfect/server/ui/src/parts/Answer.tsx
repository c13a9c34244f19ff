import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";

/**
 * What a query gives; while there is nothing, that it is awaited, or why it did not come.
 *
 * @param otherwise what else one may do then.
 */
export function Answer<T>({
  of,
  otherwise,
  children,
}: {
  of: UseQueryResult<T>;
  otherwise?: ReactNode;
  children: (data: T) => ReactNode;
}) {
  if (of.data !== undefined) return <>{children(of.data)}</>;
  if (of.error !== null) {
    return (
      <div className="notice failed" role="alert">
        <p>
          <b>
            <span aria-hidden="true">✗</span> This could not be read:
          </b>{" "}
          {of.error.message}
        </p>
        <div className="row">
          <button type="button" onClick={() => void of.refetch()}>
            Try again
          </button>
          {otherwise}
        </div>
      </div>
    );
  }
  return <p className="quiet">Loading …</p>;
}
