import { useEffect, useState } from "react";

/** The time in ms since the epoch, anew every `every` ms as long as it matters. */
export function useNow(every: number, alive = true): number {
  const [now, set] = useState(Date.now);
  useEffect(() => {
    if (!alive) return;
    set(Date.now());
    const timer = setInterval(() => set(Date.now()), every);
    return () => clearInterval(timer);
  }, [every, alive]);
  return now;
}
