import { useSearch } from "wouter";

/** The query of the address, without its "?" and as it is written there. */
export function useQueryString(): string {
  useSearch(); // says when it changes, but unescapes it: an "&" in a value would part it
  return location.search.slice(1);
}
