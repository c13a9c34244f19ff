import { useQuery } from "@tanstack/react-query";
import { Link, useLocation, useSearch } from "wouter";
import { runs } from "../api/queries";
import { Answer } from "../parts/Answer";
import { RunTable } from "../parts/RunTable";

const FILTERS = ["state", "flow", "q", "tag", "client", "from", "to"] as const;

export function History() {
  const search = useSearch();
  const found = useQuery(runs(search || "limit=50"));
  const [, go] = useLocation();
  const chosen = new URLSearchParams(search);
  return (
    <div className="stack">
      <div className="head">
        <h1>History</h1>
      </div>
      <form
        className="row"
        onSubmit={(event) => {
          event.preventDefault();
          const given = new URLSearchParams();
          for (const [name, value] of new FormData(event.currentTarget)) {
            if (typeof value === "string" && value !== "") given.append(name, value);
          }
          go(`/history?${given}`);
        }}
      >
        {FILTERS.map((name) => (
          <label key={name}>
            <span className="visually-hidden">{name}</span>
            <input name={name} placeholder={name} defaultValue={chosen.get(name) ?? ""} />
          </label>
        ))}
        <button type="submit">Filter</button>
      </form>
      <Answer of={found}>
        {({ runs, next }) =>
          runs.length === 0 ? (
            <p className="notice">No such runs.</p>
          ) : (
            <>
              <RunTable runs={runs} />
              {next !== null && <Link href={`/history?${older(chosen, next)}`}>older</Link>}
            </>
          )
        }
      </Answer>
    </div>
  );
}

function older(chosen: URLSearchParams, cursor: string): string {
  const given = new URLSearchParams(chosen);
  given.set("cursor", cursor);
  return given.toString();
}
