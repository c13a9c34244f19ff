/** Doing the same to many, some at a time, and telling what failed. */

export interface Failure {
  label: string;
  message: string;
}

const AT_ONCE = 4;

/**
 * @param act what is done to each; what it throws is told, and the others go on.
 * @param progress is told how many are done.
 */
export async function toEach<T>(
  items: readonly T[],
  label: (item: T) => string,
  act: (item: T) => Promise<unknown>,
  progress: (done: number) => void = () => {},
): Promise<Failure[]> {
  const failures: Failure[] = [];
  let next = 0;
  let done = 0;
  const work = async () => {
    while (next < items.length) {
      const item = items[next++] as T;
      try {
        await act(item);
      } catch (error) {
        failures.push({ label: label(item), message: (error as Error).message });
      }
      progress(++done);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, work));
  return failures;
}
