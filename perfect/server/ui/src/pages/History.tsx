import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "wouter";
import { runs } from "../api/queries";
import { Actions } from "../history/Actions";
import { Filters } from "../history/Filters";
import { Pages } from "../history/Pages";
import { asked, isFiltered } from "../history/search";
import { useChoice } from "../history/useChoice";
import { Answer } from "../parts/Answer";
import { useMayAct } from "../parts/access";
import { RunTable } from "../parts/RunTable";
import { useQueryString } from "../parts/search";
import { useTitle } from "../parts/title";
import "../history/history.css";

/** All runs, newest first: found by filters, a page at a time, and several at once acted upon. */
export function History() {
  useTitle("History");
  const search = useQueryString();
  const [, go] = useLocation();
  const found = useQuery({ ...runs(asked(search)), placeholderData: keepPreviousData });
  const chosen = useChoice(search, found.data?.runs ?? []);
  const may = useMayAct();
  const paged = new URLSearchParams(search).has("cursor");
  return (
    <div className="stack history">
      <h1>History</h1>
      <Filters search={search} go={(next) => go(next === "" ? "/history" : `/history?${next}`)} />
      <Answer of={found} otherwise={<Link href="/history">Show the newest</Link>}>
        {({ runs, next }) => {
          if (runs.length === 0) return <None filtered={isFiltered(search)} paged={paged} />;
          return (
            <div className="stack" aria-busy={found.isPlaceholderData}>
              <RunTable runs={runs} {...(may ? { choice: chosen } : {})} />
              <Pages search={search} next={next} />
            </div>
          );
        }}
      </Answer>
      {may && (
        <Actions
          chosen={chosen}
          more={found.data !== undefined && (found.data.next !== null || paged)}
        />
      )}
    </div>
  );
}

function None({ filtered, paged }: { filtered: boolean; paged: boolean }) {
  return (
    <p className="notice">
      {paged
        ? "There are no older runs. "
        : filtered
          ? "No run matches these filters. "
          : "Nothing has run yet. "}
      {paged || filtered ? (
        <Link href="/history">Show the newest</Link>
      ) : (
        <Link href="/">Run a flow from the library</Link>
      )}
    </p>
  );
}
