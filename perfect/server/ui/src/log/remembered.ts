/** How the lines of a log are shown: choices that this browser remembers, if it is allowed to. */

import { useState } from "react";

/** @returns whether it is chosen, as it is until somebody says otherwise, and how to say so. */
export function useRemembered(what: "wrap" | "times"): [boolean, (chosen: boolean) => void] {
  const key = `perfect.log.${what}`;
  const [chosen, choose] = useState(() => read(key));
  return [
    chosen,
    (now) => {
      choose(now);
      write(key, now);
    },
  ];
}

function read(key: string): boolean {
  try {
    return localStorage.getItem(key) !== "no";
  } catch {
    return true;
  }
}

function write(key: string, chosen: boolean): void {
  try {
    localStorage.setItem(key, chosen ? "yes" : "no");
  } catch {
    // then it counts for this page only
  }
}
