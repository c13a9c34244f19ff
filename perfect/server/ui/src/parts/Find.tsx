import { useLocation } from "wouter";
import { useQueryString } from "./search";

/** What is searched for on this page: `q` in its address. */
export function useFind(): string {
  return new URLSearchParams(useQueryString()).get("q") ?? "";
}

/** The field for it. */
export function Find({ label }: { label: string }) {
  const [path, go] = useLocation();
  const text = useFind();
  return (
    <input
      type="search"
      data-search
      aria-label={label}
      placeholder={label}
      value={text}
      onChange={({ target }) =>
        go(target.value === "" ? path : `${path}?${new URLSearchParams({ q: target.value })}`, {
          replace: true,
        })
      }
    />
  );
}

/** Whether one of these has the text in it, in any letter case. */
export function has(text: string, ...parts: string[]): boolean {
  const wanted = text.trim().toLowerCase();
  return parts.some((part) => part.toLowerCase().includes(wanted));
}
