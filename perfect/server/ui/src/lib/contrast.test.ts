import { describe, expect, it } from "vitest";
import styles from "../styles.css?raw";

type Colours = Record<string, string>;

/** The colours of the first `:root` in a piece of the style sheet. */
function colours(css: string): Colours {
  const root = css.slice(css.indexOf(":root"), css.indexOf("}", css.indexOf(":root")));
  return Object.fromEntries(
    [...root.matchAll(/--(\w+):\s*(#[0-9a-f]{6});/g)].map(([, name, value]) => [name, value]),
  );
}

/** WCAG 2.2: relative luminance. */
function luminance(colour: string): number {
  const [r, g, b] = [1, 3, 5]
    .map((at) => Number.parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * (r ?? 0) + 0.7152 * (g ?? 0) + 0.0722 * (b ?? 0);
}

function contrast(a: string, b: string): number {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return ((light ?? 0) + 0.05) / ((dark ?? 0) + 0.05);
}

const light = styles.slice(styles.indexOf("(prefers-color-scheme: light)"));
const INKS = ["text", "quiet", "cyan", "pink", "green", "red", "amber", "violet"];

describe.each([
  ["dark", colours(styles)],
  ["light", colours(light)],
])("the %s palette", (_, palette) => {
  const pairs = INKS.flatMap((ink) => ["ground", "panel", "raised"].map((paper) => [ink, paper]));

  it.each(pairs)("%s on %s is readable (WCAG AA)", (ink, paper) => {
    expect(contrast(palette[ink] ?? "", palette[paper] ?? "")).toBeGreaterThanOrEqual(4.5);
  });

  it.each(["ground", "panel"])("the edges of controls are seen on %s", (paper) => {
    expect(contrast(palette.edge ?? "", palette[paper] ?? "")).toBeGreaterThanOrEqual(3);
  });
});
