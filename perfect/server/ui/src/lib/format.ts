/** Durations, times and counts in words. What belongs together is not parted at the end of a line. */

/** @param ms duration in ms. */
export function duration(ms: number | null | undefined): string {
  return together(wordsOf(ms));
}

function wordsOf(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 0.05) return "< 1 ms"; // whole ms are all that is known of most
  if (ms < 9.95 && !Number.isInteger(ms)) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  const seconds = Math.floor(s + 0.05);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${pad(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${pad(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function together(words: string): string {
  return words.replaceAll(" ", "\u00a0");
}

function pad(n: number): string {
  return String(n).padStart(2, "0");
}

/** The viewer's zone, by name. */
export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

const whole = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });
const short = new Intl.DateTimeFormat("sv-SE", { timeStyle: "medium" });

/** A time in the viewer's zone; of today only the hour. */
export function time(iso: string | null | undefined, now = Date.now()): string {
  if (!iso) return "–";
  const at = new Date(iso);
  return at.toDateString() === new Date(now).toDateString() ? short.format(at) : whole.format(at);
}

/** A time in full, with the zone named. */
export function fullTime(iso: string): string {
  return `${whole.format(new Date(iso))} ${ZONE}`;
}

/** How long ago, or how long until. */
export function distance(iso: string, now = Date.now()): string {
  const ms = now - Date.parse(iso);
  const size = Math.abs(ms);
  const words =
    size < 60_000 ? `${Math.round(size / 1000)} s` : wordsOf(size).replace(/ \d+ s$/, "");
  return together(ms >= 0 ? `${words} ago` : `in ${words}`);
}

/** A word with a number before it: "1 task", "2 tasks". */
export function count(n: number, word: string): string {
  return `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
}
