import { useEffect, useState } from "react";
import { ask } from "../api/client";
import type { Lines } from "../api/types";
import { plain } from "../lib/ansi";
import { count } from "../lib/format";
import { type LogStore, PAGE } from "./store";

// lines; more belong into a file
const MOST = 10_000;

/** Copies the lines that match, without their colours; of very many the last. */
export function Copy({ store, path, query }: { store: LogStore; path: string; query: string }) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (said === "") return;
    const timer = setTimeout(() => setSaid(""), 4000);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => {
    try {
      const first = Math.max(0, store.pageCount - MOST / PAGE);
      const { logs } = await ask<Lines>(
        `${path}?${query}&after=${store.after(first)}&limit=${MOST}`,
      );
      await navigator.clipboard.writeText(logs.map((line) => `${plain(line.text)}\n`).join(""));
      setSaid(`${first > 0 ? "the last " : ""}${count(logs.length, "line")} copied`);
    } catch {
      // browsers give the clipboard to pages from this machine or over https only
      setSaid("the browser does not allow it: select and copy, or download");
    }
  };
  return (
    <>
      <span role="status" className="quiet">
        {said}
      </span>
      <button type="button" onClick={() => void copy()} disabled={store.count === 0}>
        Copy
      </button>
    </>
  );
}
