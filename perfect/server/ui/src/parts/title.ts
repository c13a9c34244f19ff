import { useEffect } from "react";

/** What the browser calls the page, as long as this part of it is there. */
export function useTitle(title: string): void {
  useEffect(() => {
    const before = document.title;
    document.title = `${title} – perfect`;
    return () => {
      document.title = before;
    };
  }, [title]);
}
