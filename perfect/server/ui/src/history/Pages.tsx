import { Link } from "wouter";
import { useHistoryState } from "wouter/use-browser-location";
import { onPage } from "./search";

/** The cursors of the pages that were turned to get here; kept with the entry of the browser's history. */
interface Turned {
  newer?: (string | null)[];
}

/** To the newest, newer and older runs. @param next the cursor of the older ones. */
export function Pages({ search, next }: { search: string; next: string | null }) {
  const newer = useHistoryState<Turned | null>()?.newer ?? [];
  const cursor = new URLSearchParams(search).get("cursor");
  const to = (page: string | null) => {
    const given = onPage(search, page);
    return given === "" ? "/history" : `/history?${given}`;
  };
  if (cursor === null && next === null) return null;
  return (
    <nav className="row turn" aria-label="pages of the history">
      {cursor !== null && (
        <Link href={to(null)} className="button">
          « Newest
        </Link>
      )}
      {cursor !== null && newer.length > 0 && (
        <Link
          href={to(newer.at(-1) ?? null)}
          state={{ newer: newer.slice(0, -1) } satisfies Turned}
          className="button"
        >
          ‹ Newer
        </Link>
      )}
      {next !== null && (
        <Link
          href={to(next)}
          state={{ newer: [...newer, cursor] } satisfies Turned}
          className="button"
        >
          Older ›
        </Link>
      )}
      {next === null && <span className="quiet">These are the oldest.</span>}
    </nav>
  );
}
