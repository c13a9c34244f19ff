/** Whether long lines are wrapped: a choice that this browser remembers, if it is allowed to. */

const KEY = "perfect.log.wrap";

export function wrapped(): boolean {
  try {
    return localStorage.getItem(KEY) !== "no";
  } catch {
    return true;
  }
}

export function rememberWrapped(wrap: boolean): void {
  try {
    localStorage.setItem(KEY, wrap ? "yes" : "no");
  } catch {
    // then it counts for this page only
  }
}
