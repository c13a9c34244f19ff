/** Tables of results: sorting and CSV. */

export type Row = Record<string, unknown>;

/** Every column of a table, in the order in which its rows name them. */
export function columnsOf(rows: Row[]): string[] {
  const names = new Set<string>();
  for (const row of rows) for (const name of Object.keys(row)) names.add(name);
  return [...names];
}

/** What a row has in a column; a column may be called like something that every object has. */
export function inColumn(row: Row | undefined, column: string): unknown {
  return row !== undefined && Object.hasOwn(row, column) ? row[column] : undefined;
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
    const [x, y] = [inColumn(a, column), inColumn(b, column)];
    const [noX, noY] = [cell(x) === "", cell(y) === ""];
    if (noX || noY) return Number(noX) - Number(noY);
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    return sign * words.compare(cell(x), cell(y));
  });
}

/** As RFC 4180 has it. */
export function csv(columns: string[], rows: Row[]): string {
  const lines = [columns, ...rows.map((row) => columns.map((name) => inColumn(row, name)))];
  return lines.map((line) => `${line.map(field).join(",")}\r\n`).join("");
}

// What a spreadsheet takes for the beginning of a formula, which may run programs and send what is in other cells (OWASP,
// "CSV Injection"); full-width signs, too, which some read alike.
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;
const NUMBER = /^[+-]?\d+([.,]\d+)*(e[+-]?\d+)?$/i;

/**
 * Quoting alone does not keep a spreadsheet from calculating, so text like a formula gets an apostrophe before it: people
 * open these files in one, and the rows as they are can be had from the API. Numbers stay as they are, also as text.
 */
function field(value: unknown): string {
  const plain = cell(value);
  const text = FORMULA.test(plain) && !NUMBER.test(plain) ? `'${plain}` : plain;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
