/** Icons of the pages, as strokes on 24 × 24. */
const STROKES = {
  library: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  history: "M3.5 12a8.5 8.5 0 1 0 2.6-6.1L3.5 8.4M3.5 3.8v4.6h4.6M12 7.5V12l3.2 2",
  schedules: "M4 6h16v14H4zM4 10.5h16M8.5 3v4M15.5 3v4M9 15l2.2 2.2L15.5 13",
  statistics: "M4 20h16M6 16.5v-5M11 16.5V5M16 16.5V9M20 16.5v-3",
  clients: "M4 4.5h16v11H4zM9 20h6M12 15.5V20M7.5 8.5l2 1.7-2 1.8M12 12h3.5",
} as const;

export type IconName = keyof typeof STROKES;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <path
        d={STROKES[name]}
        fill="none"
        stroke="currentColor"
        strokeWidth="1.6"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}

export function Brand() {
  return (
    <svg viewBox="4 4 24 26" aria-hidden="true">
      <path
        className="stroke"
        d="M9 25V8h8a6 6 0 0 1 0 12h-4"
        fill="none"
        strokeWidth="3.2"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
      <circle className="dot" cx="22" cy="24" r="2.6" />
    </svg>
  );
}
