import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type CSSProperties,
  type KeyboardEvent,
  type MouseEvent,
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { count } from "../lib/format";
import { LinePage } from "./LinePage";
import { type LogStore, PAGE } from "./store";

const LINE = 17; // px: a line that is not wrapped, as log.css has it
// browsers can't make anything higher than some 17 million px
const MOST_PAGES = 10_400;
const STEP = 1_000;
const AT_END = 40; // px

/**
 * A list of which only the pages in sight are in the document; a page is measured as a whole, so lines may be of any height.
 *
 * @param names of the tasks, by index; none where all lines are of one.
 */
export function LineList({
  store,
  names,
  word,
  wrap,
  times,
  over,
}: {
  store: LogStore;
  names: string[];
  word: string;
  wrap: boolean;
  /** Whether the times of the lines are shown, where there is room. */
  times: boolean;
  over: boolean;
}) {
  const frame = useRef<HTMLDivElement>(null);
  const target = useTarget();
  const [following, setFollowing] = useState(!over && target === null);
  // lines there were when it stopped to follow
  const [stoppedAt, setStoppedAt] = useState(store.count);
  const lastTop = useRef(0);
  const sought = useRef<number | null>(null);
  const { pageCount } = store;
  const left = Math.max(0, Math.ceil((pageCount - MOST_PAGES) / STEP) * STEP);

  const virtual = useVirtualizer({
    count: pageCount - left,
    getScrollElement: () => frame.current,
    estimateSize: (index) => store.size(left + index) * LINE,
    getItemKey: (index) => left + index,
    overscan: 0,
  });
  const items = virtual.getVirtualItems();
  const height = virtual.getTotalSize();
  const first = left + (items[0]?.index ?? 0);
  const last = left + (items.at(-1)?.index ?? -1);

  useEffect(() => store.look(Math.max(left, first - 1), last + 1), [store, left, first, last]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: other heights when lines are wrapped or not
  useLayoutEffect(() => virtual.measure(), [wrap]);

  useEffect(() => {
    if (target === null) return;
    setFollowing(false);
    sought.current = target;
    const page = Math.max(0, store.pageOf(target) - left);
    const place = virtual.getOffsetForIndex(page, "start")?.[0];
    if (frame.current !== null && place !== undefined) frame.current.scrollTop = place;
  }, [target, store, virtual, left]);

  // After every rendering: there may be more lines, or other heights.
  useLayoutEffect(() => {
    const box = frame.current;
    if (box === null) return;
    if (following) box.scrollTop = box.scrollHeight;
    else if (sought.current !== null && isReached(box, sought.current)) sought.current = null;
    lastTop.current = box.scrollTop;
  });

  const onScroll = () => {
    const box = frame.current;
    if (box === null) return;
    const distance = box.scrollHeight - box.scrollTop - box.clientHeight;
    if (following && box.scrollTop < lastTop.current - 1 && distance > AT_END) {
      setFollowing(false);
      setStoppedAt(store.count);
    } else if (!following && !over && distance < 2 && box.scrollTop > lastTop.current) {
      setFollowing(true);
    }
    lastTop.current = box.scrollTop;
  };
  const stopSeeking = () => {
    sought.current = null;
  };
  const toEnd = () => {
    stopSeeking();
    setFollowing(true);
  };
  const onKey = (event: KeyboardEvent) => {
    stopSeeking();
    if (event.key === "End") toEnd();
    else if (event.key === "Home" && frame.current !== null) {
      setFollowing(false);
      setStoppedAt(store.count);
      frame.current.scrollTop = 0;
    } else return;
    event.preventDefault();
  };
  const onClick = (event: MouseEvent) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>("a.line-number");
    if (link === null || event.button !== 0 || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    history.replaceState(history.state, "", link.href);
    dispatchEvent(new HashChangeEvent("hashchange"));
  };
  const fresh = store.count - stoppedAt;
  const fits = height <= (virtual.scrollRect?.height ?? 0);
  const style = {
    "--digits": String(last < 0 ? 1 : seqWidth(store, last)),
  } as CSSProperties;
  return (
    <div className="log-frame panel" data-wrap={wrap} data-times={times} style={style}>
      {left > 0 && (
        <p className="quiet log-left">
          The first {count(left * PAGE, "line")} are in the download, and found by a filter.
        </p>
      )}
      {/* biome-ignore lint/a11y/useSemanticElements: a part of the section that scrolls by itself */}
      <div
        ref={frame}
        className="log-lines"
        role="group"
        aria-label="lines of the log"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: so that it can be scrolled with the keyboard
        tabIndex={0}
        onScroll={onScroll}
        onWheel={stopSeeking}
        onPointerDown={stopSeeking}
        onKeyDown={onKey}
        onClick={onClick}
      >
        <div className="log-whole" style={{ height }}>
          <div style={{ transform: `translateY(${items[0]?.start ?? 0}px)` }}>
            {items.map(({ index, key }) => {
              const page = left + index;
              const lines = store.lines(page);
              return (
                <div key={key} data-index={index} ref={virtual.measureElement}>
                  <LinePage lines={lines} names={names} word={word} target={target} />
                  <div
                    className="log-missing"
                    style={{ height: (store.size(page) - lines.length) * LINE }}
                  />
                </div>
              );
            })}
          </div>
        </div>
      </div>
      {!(over && fits) && (
        <div className="log-foot">
          {following && !over ? (
            <span className="quiet">
              <span aria-hidden="true">▼</span> following the end
              {!fits && "; scroll up to stop"}
            </span>
          ) : (
            <button type="button" onClick={toEnd}>
              <span aria-hidden="true">▼</span>{" "}
              {fresh > 0 && !over ? `${count(fresh, "new line")}: to the end` : "to the end"}
            </button>
          )}
        </div>
      )}
    </div>
  );
}

function seqWidth(store: LogStore, page: number): number {
  return String(store.lines(page).at(-1)?.seq ?? store.after(page) + PAGE).length;
}

/** Scroll to a line, or the next that there is; whether it is in place, which heights that become known may undo. */
function isReached(box: HTMLElement, seq: number): boolean {
  const rows = [...box.querySelectorAll<HTMLElement>("[data-seq]")];
  const row = rows.find((one) => Number(one.dataset.seq) >= seq);
  if (row === undefined) return false;
  const distance = row.getBoundingClientRect().top - box.getBoundingClientRect().top;
  const before = box.scrollTop;
  box.scrollTop += Math.round(distance - box.clientHeight / 3);
  return Math.abs(box.scrollTop - before) < 2;
}

/** The line that the address names: #L123. */
function useTarget(): number | null {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const look = () => setHash(location.hash);
    addEventListener("hashchange", look);
    addEventListener("popstate", look);
    return () => {
      removeEventListener("hashchange", look);
      removeEventListener("popstate", look);
    };
  }, []);
  const found = /^#L(\d{1,9})$/.exec(hash);
  return found === null ? null : Number(found[1]);
}
