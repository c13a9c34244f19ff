/** Tables of results: sorting and CSV. */

export type Row = Record<string, unknown>;

/** Every column of a table, in the order in which its rows name them. */
export function columnsOf(rows: Row[]): string[] {
  const names = new Set<string>();
  for (const row of rows) for (const name of Object.keys(row)) names.add(name);
  return [...names];
}

/** A value as a cell shows it. */
export function cell(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** The rows by one column: numbers by size, others as people read them; empty ones last. */
export function sorted(rows: Row[], column: string, down: boolean): Row[] {
  const words = new Intl.Collator(undefined, { numeric: true });
  const sign = down ? -1 : 1;
  return rows.toSorted((a, b) => {
    const [x, y] = [a[column], b[column]];
    const [noX, noY] = [cell(x) === "", cell(y) === ""];
    if (noX || noY) return Number(noX) - Number(noY);
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    return sign * words.compare(cell(x), cell(y));
  });
}

/** As RFC 4180 has it. */
export function csv(columns: string[], rows: Row[]): string {
  const lines = [columns, ...rows.map((row) => columns.map((name) => row[name]))];
  return lines.map((line) => `${line.map(field).join(",")}\r\n`).join("");
}

/** Text that a spreadsheet would take for a formula is kept from being one. */
function field(value: unknown): string {
  const plain = cell(value);
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
