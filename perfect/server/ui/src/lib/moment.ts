/** Times as `<input type="datetime-local">` has them, and as the backend has them. */

const two = (n: number) => String(n).padStart(2, "0");

/** A time with a zone as the clock on the viewer's wall shows it; "" for none. One without stays as it is. */
export function localOf(iso: string | null | undefined): string {
  if (!iso) return "";
  if (!hasZone(iso)) return iso.replace(" ", "T").slice(0, 19);
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return "";
  const year = String(at.getFullYear()).padStart(4, "0");
  const day = `${year}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day}T${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** What the viewer's clock shows, in UTC; "" for what is no time. */
export function utcOf(local: string): string {
  const at = new Date(local);
  return local === "" || Number.isNaN(at.getTime()) ? "" : at.toISOString().replace(".000Z", "Z");
}

export function hasZone(iso: string): boolean {
  return /(Z|[+-]\d\d:?\d\d)$/i.test(iso);
}
