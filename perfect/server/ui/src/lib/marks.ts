/** Finding a word in text as the backend does: letters of the alphabet in either case. */

import type { Piece } from "./ansi";

/** Lower case as the backend's databases have it: of A to Z only. */
export function lower(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** The same pieces, cut where the word begins and ends, which may be in differing colours. */
export function marked(pieces: Piece[], word: string): Piece[] {
  if (word === "") return pieces;
  const whole = lower(pieces.map((piece) => piece.text).join(""));
  const sought = lower(word);
  let from = whole.indexOf(sought);
  if (from < 0) return pieces;
  const found: Piece[] = [];
  let before = 0; // of the text, what the pieces so far have
  for (const piece of pieces) {
    const end = before + piece.text.length;
    let at = before;
    while (at < end) {
      while (from >= 0 && from + sought.length <= at)
        from = whole.indexOf(sought, from + sought.length);
      const inside = from >= 0 && from <= at;
      const until = Math.min(end, from < 0 ? end : inside ? from + sought.length : from);
      const part = { ...piece, text: piece.text.slice(at - before, until - before) };
      found.push(inside ? { ...part, hit: true } : part);
      at = until;
    }
    before = end;
  }
  return found;
}
