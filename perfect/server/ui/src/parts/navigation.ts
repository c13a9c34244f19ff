import { type RefObject, useEffect, useLayoutEffect, useRef } from "react";

/**
 * Going to another page begins at its top, and is noticed by those who do not see it: its <main> has the focus.
 * Going back leaves the place to the browser.
 *
 * @param path of the page; filters and the like are in the query, which is no other page.
 */
export function useArrival(path: string, main: RefObject<HTMLElement | null>): void {
  const before = useRef(path);
  const back = useRef(false);
  useEffect(() => {
    const note = () => {
      back.current = true;
    };
    addEventListener("popstate", note);
    return () => removeEventListener("popstate", note);
  }, []);
  useLayoutEffect(() => {
    if (before.current === path) return;
    before.current = path;
    if (!back.current) scrollTo(0, 0);
    back.current = false;
    main.current?.focus({ preventScroll: true });
  }, [path, main]);
}
