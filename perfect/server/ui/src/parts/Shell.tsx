import type { ReactNode } from "react";
import { Link, useLocation } from "wouter";
import { useConnection } from "../api/stream";
import { feed } from "../feed";
import { ZONE } from "../lib/format";

const PAGES = [
  ["/", "Library"],
  ["/history", "History"],
  ["/schedules", "Schedules"],
  ["/statistics", "Statistics"],
  ["/clients", "Clients"],
] as const;

const CONNECTION = {
  live: "● live",
  connecting: "○ connecting …",
  away: "✗ disconnected – trying again",
} as const;

export function Shell({ children }: { children: ReactNode }) {
  const [path] = useLocation();
  const connection = useConnection(feed);
  return (
    <div className="shell">
      <nav className="side" aria-label="pages">
        <Link href="/" className="brand">
          perfect
        </Link>
        {PAGES.map(([href, name]) => (
          <Link
            key={href}
            href={href}
            className="item"
            aria-current={path === href ? "page" : undefined}
          >
            {name}
          </Link>
        ))}
        <div className="foot">
          <div role="status" data-connection={connection}>
            {CONNECTION[connection]}
          </div>
          <div>times in {ZONE}</div>
        </div>
      </nav>
      <main className="page">{children}</main>
    </div>
  );
}
