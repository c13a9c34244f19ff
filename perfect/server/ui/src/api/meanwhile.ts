/** What the stream tells while an answer is on its way. That may be older, and would take it back. */

interface Awaited {
  kind: string;
  told: unknown[];
}

const awaited = new Set<Awaited>();

/** An event of a kind has come. */
export function note(kind: string, told: unknown): void {
  for (const one of awaited) if (one.kind === kind) one.told.push(told);
}

/**
 * An answer, and in it what was told while it came.
 *
 * @param kind of the events that belong into it.
 * @param put what an event makes of the answer.
 */
export async function withNews<T, U>(
  kind: string,
  answer: Promise<T>,
  put: (answer: T, told: U) => T,
): Promise<T> {
  const here: Awaited = { kind, told: [] };
  awaited.add(here);
  try {
    const given = await answer;
    return (here.told as U[]).reduce(put, given);
  } finally {
    awaited.delete(here);
  }
}
