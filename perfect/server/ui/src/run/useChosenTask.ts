import { useCallback } from "react";
import { useSearchParams } from "wouter";

export type Choose = (index: number | null) => void;

/** The task that is looked at, by its index; it stands in the address. */
export function useChosenTask(): [number | null, Choose] {
  const [search, set] = useSearchParams();
  const text = search.get("task");
  const choose = useCallback<Choose>(
    (index) =>
      set(
        (old) => {
          const changed = new URLSearchParams(old);
          if (index === null) changed.delete("task");
          else changed.set("task", String(index));
          return changed;
        },
        { replace: true },
      ),
    [set],
  );
  return [text !== null && /^\d{1,9}$/.test(text) ? Number(text) : null, choose];
}
