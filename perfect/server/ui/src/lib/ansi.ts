/** Text with terminal escapes as pieces with a look. Colours are kept; whatever else an escape would do is not done. */

export interface Piece {
  text: string;
  /** Classes of log.css: bold, fg1, bg-text … */
  look: string;
  /** Colours beyond the sixteen. */
  color?: string;
  background?: string;
  /** Found by a search. */
  hit?: boolean;
}

/** 0–15, or a CSS colour. */
type Colour = number | string;

interface Look {
  fg?: Colour | undefined;
  bg?: Colour | undefined;
  bold?: boolean;
  dim?: boolean;
  italic?: boolean;
  underline?: boolean;
  struck?: boolean;
  inverse?: boolean;
}

// More colours than this in one line are noise; the rest of the line is shown in the last one.
const MOST_PIECES = 1000;

const PARTS = new RegExp(
  [
    // CSI … final: only "m" means something here
    "(?:\\x1b\\[|\\x9b)([0-?]*)[ -/]*([@-~])?",
    // OSC (titles, links), DCS, SOS, PM, APC: to their end, or the next escape
    "(?:\\x1b[\\]PX^_]|[\\x90\\x98\\x9d\\x9e\\x9f])[^\\x07\\x1b\\x9c]*(?:\\x07|\\x9c|\\x1b\\\\)?",
    // other escapes
    "\\x1b[ -/]*[0-~]?",
    // control characters except tab and line feed
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]",
  ].join("|"),
  "g",
);
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/;

export function parse(text: string): Piece[] {
  if (!CONTROL.test(text)) return text === "" ? [] : [{ text, look: "" }];
  const pieces: Piece[] = [];
  const line = overwritten(text);
  let look: Look = {};
  let from = 0;
  const put = (part: string) => {
    if (part === "") return;
    const last = pieces.at(-1);
    const next = piece(part, look);
    if (last !== undefined && (pieces.length >= MOST_PIECES || alike(last, next)))
      last.text += part;
    else pieces.push(next);
  };
  for (const found of line.matchAll(PARTS)) {
    put(line.slice(from, found.index));
    from = found.index + found[0].length;
    if (found[2] === "m" && found[1] !== undefined) look = changed(look, found[1]);
  }
  put(line.slice(from));
  return pieces;
}

/** The text alone. */
export function plain(text: string): string {
  return CONTROL.test(text) ? overwritten(text).replace(PARTS, "") : text;
}

/** What a terminal shows after carriage returns: a progress bar's last state. */
function overwritten(text: string): string {
  const line = text.replace(/\r+$/, "");
  return line.slice(line.lastIndexOf("\r") + 1);
}

function alike(a: Piece, b: Piece): boolean {
  return a.look === b.look && a.color === b.color && a.background === b.background;
}

function piece(text: string, look: Look): Piece {
  let { fg, bg } = look;
  if (look.inverse) {
    // on a coloured ground the text keeps its own colour, which is readable on it
    [fg, bg] = [bg ?? (fg === undefined ? "ground" : undefined), fg ?? "text"];
  }
  const made: Piece = { text, look: "" };
  const classes: string[] = [];
  if (look.bold) classes.push("bold");
  if (look.dim) classes.push("dim");
  if (look.italic) classes.push("italic");
  if (look.underline) classes.push("underline");
  if (look.struck) classes.push("struck");
  if (typeof fg === "string" && fg.startsWith("rgb")) made.color = fg;
  else if (fg !== undefined) classes.push(`fg-${fg}`);
  if (typeof bg === "string" && bg.startsWith("rgb")) made.background = bg;
  else if (bg !== undefined) classes.push(`bg-${bg}`);
  made.look = classes.join(" ");
  return made;
}

function changed(look: Look, codes: string): Look {
  // "<=>?" first: not colours but a terminal's own settings
  if (/[<-?]/.test(codes)) return look;
  let next: Look = { ...look };
  const parts = codes.split(";");
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i] ?? "";
    const code = Number(part.split(":")[0]);
    if (code === 0) next = {};
    else if (code === 38 || code === 48) {
      const [colour, used] = part.includes(":") ? withColons(part) : withSemicolons(parts, i);
      if (colour !== undefined) next[code === 38 ? "fg" : "bg"] = colour;
      i += used;
    } else simple(next, code, part);
  }
  return next;
}

function simple(look: Look, code: number, part: string): void {
  if (code === 1) look.bold = true;
  else if (code === 2) look.dim = true;
  else if (code === 3) look.italic = true;
  else if (code === 4) look.underline = part !== "4:0";
  else if (code === 7) look.inverse = true;
  else if (code === 9) look.struck = true;
  else if (code === 21) look.underline = true;
  else if (code === 22) look.bold = look.dim = false;
  else if (code === 23) look.italic = false;
  else if (code === 24) look.underline = false;
  else if (code === 27) look.inverse = false;
  else if (code === 29) look.struck = false;
  else if (code >= 30 && code <= 37) look.fg = code - 30;
  else if (code === 39) look.fg = undefined;
  else if (code >= 40 && code <= 47) look.bg = code - 40;
  else if (code === 49) look.bg = undefined;
  else if (code >= 90 && code <= 97) look.fg = code - 82;
  else if (code >= 100 && code <= 107) look.bg = code - 92;
}

/** 38;5;n and 38;2;r;g;b: the colour, and how many more parts it took. */
function withSemicolons(parts: string[], at: number): [Colour | undefined, number] {
  if (parts[at + 1] === "5") return [indexed(Number(parts[at + 2])), 2];
  if (parts[at + 1] === "2") return [rgb(parts.slice(at + 2, at + 5).map(Number)), 4];
  return [undefined, 0];
}

/** 38:5:n, 38:2:r:g:b and 38:2:space:r:g:b. */
function withColons(part: string): [Colour | undefined, number] {
  const [, kind, ...rest] = part.split(":");
  if (kind === "5") return [indexed(Number(rest[0])), 0];
  if (kind === "2") return [rgb((rest.length > 3 ? rest.slice(1, 4) : rest).map(Number)), 0];
  return [undefined, 0];
}

function indexed(n: number): Colour | undefined {
  if (!Number.isInteger(n) || n < 0 || n > 255) return undefined;
  if (n < 16) return n;
  if (n >= 232) return rgb(Array(3).fill(8 + (n - 232) * 10));
  const step = (at: number) => (at === 0 ? 0 : 55 + at * 40);
  return rgb([36, 6, 1].map((size) => step(Math.floor((n - 16) / size) % 6)));
}

function rgb(parts: number[]): Colour | undefined {
  if (parts.length !== 3 || !parts.every((n) => Number.isInteger(n) && n >= 0 && n <= 255))
    return undefined;
  return `rgb(${parts.join(" ")})`;
}
