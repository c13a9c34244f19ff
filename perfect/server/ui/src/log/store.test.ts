import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Line } from "../api/types";
import { type Filter, LogStore, PAGE, queryOf } from "./store";

const ALL_LINES: Filter = { task: null, level: "", text: "" };
const line = (seq: number, text = `line ${seq}`): Line => ({
  seq,
  task: seq % 3,
  stream: "stdout",
  level: seq % 10 === 0 ? "ERROR" : "INFO",
  time: "2026-01-01T00:00:00.000Z",
  text,
});

/** A backend with `total` lines. */
class Backend {
  asked: string[] = [];
  broken = false;
  constructor(
    public total: number,
    private filter: Filter,
  ) {}
  private get matching(): Line[] {
    const { task, text } = this.filter;
    return Array.from({ length: this.total }, (_, i) => line(i + 1)).filter(
      (one) => (task === null || one.task === task) && one.text.includes(text),
    );
  }
  async page(after: number, limit: number) {
    this.asked.push(`page ${after}`);
    if (this.broken) throw new Error("away");
    const logs =
      this.filter === ALL_LINES
        ? Array.from({ length: Math.min(limit, this.total - after) }, (_, i) => line(after + i + 1))
        : this.matching.filter((one) => one.seq > after).slice(0, limit);
    return { logs, next: null, total: this.total };
  }
  async places(after: number, counted: number) {
    this.asked.push(`places ${after} ${counted}`);
    const matching = this.matching;
    const first = matching.filter((one, i) => i % PAGE === 0 && one.seq > after);
    return { first: first.map((one) => one.seq), count: matching.length, total: this.total };
  }
}

function open(total: number, part?: Partial<Filter>): [LogStore, Backend] {
  const filter = part === undefined ? ALL_LINES : { ...ALL_LINES, ...part };
  const backend = new Backend(total, filter);
  return [new LogStore(filter, backend), backend];
}
const settled = () => vi.advanceTimersByTimeAsync(1);
const seqs = (store: LogStore, page: number) => store.lines(page).map((one) => one.seq);

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

describe("without a filter", () => {
  it("asks for the pages in sight and forgets those far away", async () => {
    const [store, backend] = open(1_000_000);
    store.told(1_000_000);
    expect(store.count).toBe(1_000_000);
    for (let page = 0; page < 200; page++) {
      store.look(page, page + 1);
      await settled();
    }
    store.look(9_999, 9_999);
    await settled();
    expect(seqs(store, 9_999)).toEqual(Array.from({ length: 100 }, (_, i) => 999_901 + i));
    expect(seqs(store, 100)).toEqual([]);
    expect(new Set(backend.asked).size).toBe(backend.asked.length);
  });

  it("adds what the stream tells, once", async () => {
    const [store, backend] = open(150);
    store.told(150);
    store.look(0, 2);
    await settled();
    store.add([line(149), line(150), line(151)]);
    store.add(Array.from({ length: 60 }, (_, i) => line(152 + i)));
    expect(store.count).toBe(211);
    expect(seqs(store, 1)).toEqual(Array.from({ length: 100 }, (_, i) => 101 + i));
    expect(seqs(store, 2)).toEqual(Array.from({ length: 11 }, (_, i) => 201 + i));
    expect(backend.asked).toEqual(["page 0", "page 100"]);
  });

  it("reads what the stream leaves out or cuts", async () => {
    const [store, backend] = open(50);
    store.told(50);
    store.look(0, 5);
    await settled();
    backend.total = 320;
    store.add([line(319), line(320)]);
    await settled();
    expect(store.count).toBe(320);
    expect(seqs(store, 0).length).toBe(100);
    expect(seqs(store, 3).at(-1)).toBe(320);
    backend.total = 322;
    store.add([line(321, "long … [cut, 9 bytes]"), line(322)]);
    await settled();
    expect(store.lines(3).at(-2)?.text).toBe("line 321");
    expect(seqs(store, 3).at(-1)).toBe(322);
  });

  it("believes the run's own count where the stream is silent", async () => {
    const [store] = open(20);
    store.told(10);
    store.look(0, 0);
    await settled();
    store.told(20);
    expect(store.count).toBe(10);
    await vi.advanceTimersByTimeAsync(500);
    expect(seqs(store, 0).length).toBe(20);
  });

  it("tries again after an error, and says it meanwhile", async () => {
    const [store, backend] = open(10);
    backend.broken = true;
    store.told(10);
    store.look(0, 0);
    await settled();
    expect(store.error?.message).toBe("away");
    backend.broken = false;
    await vi.advanceTimersByTimeAsync(2001);
    expect(store.error).toBe(null);
    expect(store.lines(0).length).toBe(10);
  });
});

describe("with a filter", () => {
  it("finds any page by the places that the backend tells", async () => {
    const [store] = open(3_000, { task: 1 });
    store.told(3_000);
    await settled();
    expect(store.count).toBe(1_000);
    expect(store.pageOf(2_000)).toBe(6);
    expect(store.pageOf(1)).toBe(0);
    store.look(6, 6);
    await settled();
    expect(seqs(store, 6)).toEqual(Array.from({ length: 100 }, (_, i) => 1_801 + i * 3));
  });

  it("counts on from the stream, and from the backend where lines are missing", async () => {
    const [store, backend] = open(300, { task: 1 });
    store.told(300);
    await settled();
    store.add([line(301), line(302), line(303), line(304)]);
    expect(store.count).toBe(102);
    backend.total = 900;
    store.add([line(899), line(900)]);
    // while it is being counted
    backend.total = 901;
    store.add([line(901)]);
    await settled();
    expect(store.count).toBe(301);
    expect(backend.asked).toContain("places 304 102");
    store.look(0, 9);
    await settled();
    expect([0, 1, 2, 3].flatMap((page) => seqs(store, page))).toEqual(
      Array.from({ length: 301 }, (_, i) => 1 + i * 3),
    );
  });

  it("finds letters of either case", async () => {
    const [store] = open(0, { text: "ERR" });
    store.told(0);
    await settled();
    store.add([line(1, "an Error"), line(2, "none")]);
    expect(store.count).toBe(1);
  });
});

it("writes the filter as the backend reads it", () => {
  expect(queryOf(ALL_LINES)).toBe("");
  expect(queryOf({ task: 0, level: "ERROR,CRITICAL", text: "a&b" })).toBe(
    "task=0&level=ERROR%2CCRITICAL&q=a%26b",
  );
});
