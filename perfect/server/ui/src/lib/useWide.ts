import { useSyncExternalStore } from "react";

const wide = () => matchMedia("(min-width: 761px)");

/** Whether there is room beside one another. */
export function useWide(): boolean {
  return useSyncExternalStore(
    (changed) => {
      const query = wide();
      query.addEventListener("change", changed);
      return () => query.removeEventListener("change", changed);
    },
    () => wide().matches,
  );
}
