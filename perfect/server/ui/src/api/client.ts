/** Requests to the backend that served this page. */

/** Where the dashboard lives, "" or "/x" below a base path; the backend says it in <base>. */
export const BASE = new URL(document.baseURI).pathname.replace(/\/$/, "");

export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly detail: unknown,
  ) {
    super(message);
  }
}

/**
 * Ask the backend.
 *
 * @throws Refused: an answer other than 2xx; with status 0 there was none.
 */
export async function ask<T>(
  path: string,
  options: { method?: string; body?: unknown; signal?: AbortSignal } = {},
): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`${BASE}${path}`, {
      method: options.method ?? "GET",
      headers: options.body === undefined ? {} : { "Content-Type": "application/json" },
      body: options.body === undefined ? null : JSON.stringify(options.body),
      signal: options.signal ?? null,
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Refused(0, "the backend does not answer", null);
  }
  if (response.status === 401) {
    location.assign(
      `${BASE}/login?next=${encodeURIComponent(location.pathname + location.search)}`,
    );
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) {
    throw new Refused(
      response.status,
      answer?.error ?? `the backend answered ${response.status}`,
      answer?.detail,
    );
  }
  return answer as T;
}
