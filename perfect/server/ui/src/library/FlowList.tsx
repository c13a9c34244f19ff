import { useState } from "react";
import { useLocation } from "wouter";
import { ask } from "../api/client";
import type { Flow } from "../api/types";
import { count } from "../lib/format";
import { useMayAct } from "../parts/access";
import { Bulk } from "../parts/Bulk";
import { Many } from "../parts/Many";
import { useQueryString } from "../parts/search";
import { Configuration } from "./Configuration";
import { FlowCard } from "./FlowCard";
import { matching, tagsOf } from "./filter";

const CARDS = 24; // at first, and so many more at a time

/** The flows, found by text and tag, both in the address. */
export function FlowList({ flows, open }: { flows: Flow[]; open: (flow: Flow) => void }) {
  const [, go] = useLocation();
  const chosen = new URLSearchParams(useQueryString());
  const may = useMayAct();
  const [running, setRunning] = useState(false);
  const text = chosen.get("q") ?? "";
  const tag = chosen.get("tag") ?? "";
  const found = matching(flows, text, tag);
  const tags = tagsOf(flows);
  const put = (name: string, value: string) => {
    if (value === "") chosen.delete(name);
    else chosen.set(name, value);
    go(chosen.size === 0 ? "/" : `/?${chosen}`, { replace: name === "q" });
  };
  return (
    <>
      <search className="row find">
        <input
          type="search"
          data-search
          aria-label="search flows"
          placeholder="search flows  /"
          value={text}
          onChange={(event) => put("q", event.target.value)}
        />
        {(tags.length > 0 || tag !== "") && (
          <select aria-label="tag" value={tag} onChange={(event) => put("tag", event.target.value)}>
            <option value="">every tag</option>
            {[...new Set([...tags, ...(tag === "" ? [] : [tag])])].map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
        )}
        <span className="quiet" role="status">
          {found.length === flows.length
            ? count(flows.length, "flow")
            : `${found.length} of ${count(flows.length, "flow")}`}
        </span>
        <span className="spacer" />
        {may && (
          <button type="button" disabled={found.length === 0} onClick={() => setRunning(true)}>
            Run all …
          </button>
        )}
      </search>
      {found.length === 0 && (
        <p className="notice">
          No flow matches.{" "}
          <button type="button" onClick={() => go("/")}>
            Show all
          </button>
        </p>
      )}
      <Many of={found} step={CARDS}>
        {(shown) => (
          <div className="cards">
            {shown.map((flow) => (
              <FlowCard key={flow.id} flow={flow} open={() => open(flow)} />
            ))}
          </div>
        )}
      </Many>
      {running && <RunAll flows={found} close={() => setRunning(false)} />}
    </>
  );
}

function RunAll({ flows, close }: { flows: Flow[]; close: () => void }) {
  const [configuration, setConfiguration] = useState("development");
  const lonely = flows.filter((flow) => !flow.connected).length;
  return (
    <Bulk
      title={`Run ${count(flows.length, "flow")}?`}
      verb="Run all"
      ready={configuration.trim() !== ""}
      items={flows}
      label={(flow) => flow.name}
      act={(flow) =>
        ask(`/api/engine/trigger/${encodeURIComponent(flow.id)}`, {
          method: "POST",
          body: { configuration },
        })
      }
      close={close}
    >
      <Configuration value={configuration} change={setConfiguration} />
      {lonely > 0 && (
        <p className="warning">⚠ {lonely} of them: no connected client, so the runs will wait.</p>
      )}
    </Bulk>
  );
}
