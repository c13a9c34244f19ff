import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useEffect, useRef } from "react";
import { Link, useLocation } from "wouter";
import { BASE } from "../api/client";
import { version } from "../api/queries";
import { POLL_EVERY, useConnection } from "../api/stream";
import { feed } from "../feed";
import { ZONE } from "../lib/format";
import { Boundary } from "./Boundary";
import { Brand, Icon } from "./Icon";
import { useArrival } from "./navigation";
import "./shell.css";

const PAGES = [
  ["/", "Library", "library"],
  ["/history", "History", "history"],
  ["/schedules", "Schedules", "schedules"],
  ["/statistics", "Statistics", "statistics"],
  ["/clients", "Clients", "clients"],
] as const;

const CONNECTION = {
  live: ["●", "live"],
  connecting: ["○", "connecting …"],
  polling: ["◐", `no stream – asking every ${POLL_EVERY / 1000} s`],
  away: ["✗", "disconnected – trying again"],
} as const;

export function Shell({ children }: { children: ReactNode }) {
  const [path] = useLocation();
  const main = useRef<HTMLElement>(null);
  useArrival(path, main);
  // after the pages, of which one may follow a run
  useEffect(() => feed.begin(), []);
  return (
    <div className="shell">
      <button type="button" className="skip" onClick={() => main.current?.focus()}>
        To the page
      </button>
      <nav className="side" aria-label="pages">
        <Link href="/" className="brand">
          <Brand />
          perfect
        </Link>
        <div className="places">
          {PAGES.map(([href, name, icon]) => (
            <Link
              key={href}
              href={href}
              aria-current={path === href ? "page" : under(href, path) ? "true" : undefined}
            >
              <Icon name={icon} />
              {name}
            </Link>
          ))}
        </div>
        <Foot />
      </nav>
      <main className="page" ref={main} tabIndex={-1}>
        <Boundary key={path}>{children}</Boundary>
      </main>
    </div>
  );
}

/** Whether a page that is not in the list is found by way of one that is. */
function under(href: string, path: string): boolean {
  return (
    (href === "/statistics" && path.startsWith("/flows/")) ||
    (href === "/history" && path.startsWith("/runs/"))
  );
}

function Foot() {
  const connection = useConnection(feed);
  const known = useQuery(version).data;
  const [sign, words] = CONNECTION[connection];
  return (
    <div className="foot">
      <div role="status" className="connection" data-connection={connection}>
        <span aria-hidden="true">{sign}</span> {words}
      </div>
      <div>times in {ZONE}</div>
      {known !== undefined && <div className="version">version {known.version}</div>}
      {known?.access === "read" && <div>read only</div>}
      {known !== undefined && known.access !== "open" && (
        <form method="post" action={`${BASE}/logout`}>
          <button type="submit" className="plain">
            Log out
          </button>
        </form>
      )}
    </div>
  );
}
