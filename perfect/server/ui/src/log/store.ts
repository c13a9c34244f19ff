/**
 * The lines of one log that match a filter: how many there are, and those around what is looked at.
 *
 * They are kept in pages of PAGE lines. Without a filter, line n has the sequence number n + 1; with one, the backend
 * says where each page begins. New lines come from the stream; where it leaves some out, or shortens one, the page
 * that misses them is one that is not complete, and is asked for like any other.
 */

import type { Line, Lines } from "../api/types";
import { lower } from "../lib/marks";

export const PAGE = 100;
const NONE: readonly Line[] = [];
// pages kept on either side of what is looked at
const KEPT = 20;
// the stream cuts lines longer than this; it ends them with a marker
const CUT = /… \[cut, \d+ bytes\]$/;
// ms: how long the stream may take to bring what the run's own count tells of
const PATIENCE = 400;
const AGAIN = 2000;
// requests; browsers have six connections to a backend, of which the stream takes one
const AT_ONCE = 3;

export interface Filter {
  task: number | null;
  /** Levels, separated by commas; "" for all. */
  level: string;
  text: string;
}

export interface Places {
  first: number[];
  count: number;
  total: number;
}

/** The requests that it makes. */
export interface Source {
  page(after: number, limit: number): Promise<Lines>;
  places(after: number, counted: number): Promise<Places>;
}

export function isFiltered(filter: Filter): boolean {
  return filter.task !== null || filter.level !== "" || filter.text !== "";
}

/** The filter as the query of the backend's routes. */
export function queryOf(filter: Filter): string {
  const query = new URLSearchParams();
  if (filter.task !== null) query.set("task", String(filter.task));
  if (filter.level !== "") query.set("level", filter.level);
  if (filter.text !== "") query.set("q", filter.text);
  return query.toString();
}

export class LogStore {
  /** Lines that match. */
  count = 0;
  /** Whether `count` has been told once. */
  known = false;
  error: Error | null = null;
  /** Rises with every change. */
  version = 0;
  /** Sequence number of the newest line that is counted. */
  private seen = 0;
  private firsts: number[] = [];
  private pages = new Map<number, Line[]>();
  private asked = new Set<number>();
  private waiting: Line[][] | null = null;
  private listeners = new Set<() => void>();
  private timers = new Set<ReturnType<typeof setTimeout>>();
  private range: [number, number] = [0, -1];
  private readonly filtered: boolean;

  constructor(
    private filter: Filter,
    private source: Source,
  ) {
    this.filtered = isFiltered(filter);
  }

  get pageCount(): number {
    return Math.ceil(this.count / PAGE);
  }

  /** How many lines a page has, whether they are here or not. */
  size(page: number): number {
    return Math.max(0, Math.min(PAGE, this.count - page * PAGE));
  }

  lines(page: number): readonly Line[] {
    return this.pages.get(page) ?? NONE;
  }

  /** The page with the line of that sequence number; with a filter, the one where it would be. */
  pageOf(seq: number): number {
    if (!this.filtered) return Math.floor((seq - 1) / PAGE);
    let low = 0;
    let high = this.firsts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.firsts[middle] ?? 0) <= seq) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  /** The sequence number after which a page begins. */
  after(page: number): number {
    return this.filtered ? Math.max(0, (this.firsts[page] ?? 1) - 1) : page * PAGE;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  };

  close(): void {
    for (const timer of this.timers) clearTimeout(timer);
    this.timers.clear();
  }

  /** The run has so many lines by now. The stream brings the newest; what it does not bring is counted here. */
  told(total: number): void {
    if (total <= this.seen && this.known) return;
    if (!this.known) void this.recount(total);
    else this.later(PATIENCE, () => total > this.seen && void this.recount(total));
  }

  /** New lines, from the stream. */
  add(lines: Line[]): void {
    if (this.waiting !== null) {
      this.waiting.push(lines);
      return;
    }
    const fresh = lines.filter((line) => line.seq > this.seen);
    const [first, last] = [fresh[0], fresh.at(-1)];
    if (!this.known || first === undefined || last === undefined) return;
    const unsure = this.filter.text !== "" && fresh.some((line) => CUT.test(line.text));
    if (first.seq > this.seen + 1 || unsure) {
      // some were left out, or what is sought may be where one was cut
      void this.recount(last.seq);
      return;
    }
    for (const line of fresh) if (this.matches(line)) this.append(line);
    this.seen = last.seq;
    this.load();
    this.changed();
  }

  /** What is looked at: these pages are asked for, and those far from them forgotten. */
  look(first: number, last: number): void {
    this.range = [first, last];
    for (const page of this.pages.keys()) {
      if (page < first - KEPT || page > last + KEPT) this.pages.delete(page);
    }
    this.load();
  }

  /** Ask again, after an error. */
  again(): void {
    this.error = null;
    if (this.known) this.load();
    else void this.recount(this.seen);
    this.changed();
  }

  private append(line: Line): void {
    const page = Math.floor(this.count / PAGE);
    const at = this.count % PAGE;
    if (at === 0) this.firsts[page] = line.seq;
    this.count += 1;
    // a cut line makes its page one that is not complete
    if (CUT.test(line.text)) return;
    const held = this.pages.get(page);
    if (at === 0) this.pages.set(page, [line]);
    else if (held?.length === at) this.pages.set(page, [...held, line]);
  }

  private matches(line: Line): boolean {
    const { task, level, text } = this.filter;
    return (
      (task === null || line.task === task) &&
      (level === "" || level.split(",").includes(line.level ?? "")) &&
      (text === "" || lower(line.text).includes(lower(text)))
    );
  }

  /** Count what came since the newest line that is counted. */
  private async recount(total: number): Promise<void> {
    if (!this.filtered) {
      this.seen = this.count = Math.max(total, this.count);
      this.known = true;
      this.load();
      this.changed();
      return;
    }
    if (this.waiting !== null) return;
    this.waiting = [];
    try {
      const places = await this.source.places(this.seen, this.count);
      this.firsts.push(...places.first);
      this.count = places.count;
      this.seen = places.total;
      this.known = true;
      this.error = null;
    } catch (error) {
      this.failed(error, () => void this.recount(total));
    }
    const missed = this.waiting;
    this.waiting = null;
    for (const lines of missed) this.add(lines);
    this.load();
    this.changed();
  }

  private load(): void {
    if (!this.known || this.error !== null) return;
    const [first, last] = this.range;
    for (let page = Math.max(0, first); page <= last && page < this.pageCount; page++) {
      // no more: what is scrolled past before it is its turn is not asked for
      if (this.asked.size >= AT_ONCE) return;
      if (this.lines(page).length < this.size(page) && !this.asked.has(page)) void this.ask(page);
    }
  }

  private async ask(page: number): Promise<void> {
    this.asked.add(page);
    const size = this.size(page);
    try {
      const { logs } = await this.source.page(this.after(page), PAGE);
      if (logs.length < size) throw new Error("the log has fewer lines than it had");
      const expected = this.size(page);
      if (logs.length >= this.lines(page).length) this.pages.set(page, logs.slice(0, expected));
    } catch (error) {
      this.failed(error, () => this.load());
    }
    this.asked.delete(page);
    this.load();
    this.changed();
  }

  private failed(error: unknown, retry: () => void): void {
    this.error = error instanceof Error ? error : new Error(String(error));
    this.later(AGAIN, () => {
      this.error = null;
      retry();
    });
  }

  private later(ms: number, act: () => void): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, ms);
    this.timers.add(timer);
  }

  private changed(): void {
    this.version += 1;
    for (const listener of this.listeners) listener();
  }
}
