import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useLocation } from "wouter";
import { duration, time } from "../lib/format";
import { tickLabel, ticks } from "../lib/timeline";
import { type Trend, timeMarks, timeRange } from "../lib/trend";

const HEIGHT = 260; // px

/** Durations over time. A click on one opens its run. */
export default function TrendChart({
  label,
  trend,
  average,
  p95,
}: {
  label: string;
  trend: Trend;
  average: number | null;
  p95: number | null;
}) {
  const box = useRef<HTMLDivElement>(null);
  const dark = useDark();
  const [, go] = useLocation();
  // biome-ignore lint/correctness/useExhaustiveDependencies: other colours are another chart
  useEffect(() => {
    const place = box.current;
    if (place === null) return;
    const level = (value: number | null) => trend.times.map(() => value);
    const chart = new uPlot(
      optionsOf(place.clientWidth, trend.times, average, p95),
      [trend.times, trend.completed, trend.failed, trend.other, level(average), level(p95)],
      place,
    );
    const resized = new ResizeObserver(() =>
      chart.setSize({ width: place.clientWidth, height: HEIGHT }),
    );
    resized.observe(place);
    chart.over.addEventListener("click", () => {
      const at = chart.cursor.idx;
      const entry = at === null || at === undefined ? undefined : trend.entries[at];
      if (entry !== undefined) go(`/runs/${entry.runId}`);
    });
    return () => {
      resized.disconnect();
      chart.destroy();
    };
  }, [trend, average, p95, dark, go]);
  return <div className="trend" ref={box} role="img" aria-label={label} />;
}

function optionsOf(
  width: number,
  times: number[],
  average: number | null,
  p95: number | null,
): uPlot.Options {
  const colour = (name: string) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const font = `12px ${getComputedStyle(document.documentElement).fontFamily}`;
  const value = (_: uPlot, ms: number | null) => duration(ms);
  const axis = {
    stroke: colour("quiet"),
    font,
    grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1 },
  };
  const marks = (name: string, sign: string, stroke: string): uPlot.Series => ({
    label: `${sign} ${name}`,
    stroke: colour(stroke),
    value,
    paths: () => null,
    points: { show: false },
  });
  // drawn from edge to edge, also where there is but one value
  const level = (label: string, stroke: string): uPlot.Series => ({
    label,
    stroke: colour(stroke),
    value: () => "",
    paths: () => null,
    points: { show: false },
  });
  return {
    width,
    height: HEIGHT,
    cursor: { y: false, points: { show: false } },
    scales: {
      // what it would be given of a single time is years
      x: { range: () => timeRange(times[0] ?? 0, times.at(-1) ?? 0) },
      y: { range: (_, __, most) => [0, most * 1.15 || 1] },
    },
    axes: [
      {
        ...axis,
        space: 70,
        values: (_, marks, __, ___, apart) => timeMarks(marks, apart),
      },
      {
        ...axis,
        splits: (_, __, ___, most) => ticks(most, 5),
        values: (_, marks) => marks.map(tickLabel),
        size: (_, marks) => 24 + 7 * Math.max(0, ...(marks ?? []).map((mark) => mark.length)),
      },
    ],
    series: [
      {
        label: "started",
        value: (_, s) => (s === null ? "–" : time(new Date(s * 1000).toISOString())),
      },
      {
        label: "● completed",
        stroke: colour("green"),
        fill: `${colour("green")}18`,
        width: 1.5,
        spanGaps: true,
        value,
        points: { show: true, size: 6, fill: colour("green") },
      },
      marks("failed", "✗", "red"),
      marks("others", "■", "violet"),
      level(`╌ average ${duration(average)}`, "cyan"),
      level(`┈ p95 ${duration(p95)}`, "amber"),
    ],
    hooks: {
      draw: [
        (chart) => {
          across(chart, average, colour("cyan"), [8, 5]);
          across(chart, p95, colour("amber"), [2, 4]);
          sign(chart, 2, "✗", colour("red"));
          sign(chart, 3, "■", colour("violet"));
        },
      ],
    },
  };
}

/** Draw a line over the whole width. */
function across(chart: uPlot, value: number | null, colour: string, dash: number[]): void {
  if (value === null) return;
  const { ctx, bbox } = chart;
  const y = chart.valToPos(value, "y", true);
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash(dash.map((px) => px * devicePixelRatio));
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

/** Draw a sign, which tells states apart without colours, at every value of a series. */
function sign(chart: uPlot, series: number, text: string, colour: string): void {
  const { ctx } = chart;
  ctx.save();
  ctx.fillStyle = colour;
  ctx.font = `bold ${13 * devicePixelRatio}px sans-serif`;
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  for (const [at, value] of (chart.data[series] ?? []).entries()) {
    if (typeof value !== "number") continue;
    const x = chart.valToPos(chart.data[0][at] ?? 0, "x", true);
    ctx.fillText(text, x, chart.valToPos(value, "y", true));
  }
  ctx.restore();
}

/** Whether the page is dark, as the system wants it. */
function useDark(): boolean {
  const [dark, setDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const wish = matchMedia("(prefers-color-scheme: dark)");
    const note = () => setDark(wish.matches);
    wish.addEventListener("change", note);
    return () => wish.removeEventListener("change", note);
  }, []);
  return dark;
}
