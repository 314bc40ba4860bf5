/**
 * Two kinds of figures as SVG text: bars with spread, and lines. Readable in a light and in a dark page.
 *
 * @module
 */

/** One bar with the least and most of its repeats. */
export interface Bar {
  value: number;
  low: number;
  high: number;
}

/** Groups of bars: one group a label, one bar a series. */
export interface BarFigure {
  title: string;
  unit: string;
  series: readonly string[];
  groups: readonly { label: string; bars: readonly (Bar | null)[] }[];
  /** A level to compare with. */
  mark?: { at: number; label: string };
}

/** An axis. Logarithmic ones need values above 0. */
export interface Axis {
  label: string;
  log?: boolean;
  /** Where ticks are, with what they say; else round numbers. */
  ticks?: readonly { at: number; label: string }[];
}

/** Lines over a common x. */
export interface LineFigure {
  title: string;
  x: Axis;
  y: Axis;
  lines: readonly { name: string; points: readonly (readonly [x: number, y: number])[] }[];
  mark?: { at: number; label: string };
}

const WIDTH = 760, HEIGHT = 340;
const PLOT = { left: 64, right: 16, top: 62, bottom: 48 } as const;
/** Okabe and Ito's colours, which people tell apart whatever their eyes; lighter ones where the page is dark. */
const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a", "#8a5a00"];
const DARK = ["#4aa8e0", "#ff8a3d", "#2fd0a0", "#e79fc6", "#f4b942", "#8fd0ff", "#b0b0b0", "#c9973a"];

/** A figure of bars as an SVG document. */
export function barSvg(figure: BarFigure): string {
  const { groups, series, unit, mark } = figure;
  const values = groups.flatMap(({ bars }) => bars.flatMap((bar) => bar === null ? [] : [bar.high]));
  const scale = linear(0, Math.max(...values, mark?.at ?? 0, 1e-9) * 1.05, HEIGHT - PLOT.bottom, PLOT.top);
  const parts = [...yAxis({ label: unit }, scale)];
  const width = (WIDTH - PLOT.left - PLOT.right) / Math.max(1, groups.length);
  const bar = Math.min(40, width * 0.84 / Math.max(1, series.length));
  groups.forEach(({ label, bars }, g) => {
    const middle = PLOT.left + width * (g + 0.5);
    parts.push(text(middle, HEIGHT - PLOT.bottom + 18, label, "middle"));
    bars.forEach((one, s) => {
      if (one === null) return;
      const x = middle + (s - series.length / 2) * bar;
      const top = scale.at(one.value);
      parts.push(
        `<rect class="f${s}" x="${n(x + 1)}" y="${n(top)}" width="${n(bar - 2)}" ` +
          `height="${n(scale.at(0) - top)}"><title>${
            escape(`${label}, ${series[s]}: ${tick(one.value)}`)
          }</title></rect>`,
      );
      if (one.high > one.low) {
        const m = n(x + bar / 2);
        parts.push(
          `<path class="spread" d="M${m} ${n(scale.at(one.low))}V${n(scale.at(one.high))}"/>`,
        );
      }
    });
  });
  if (mark) parts.push(...markLine(scale.at(mark.at), mark.label));
  return document(figure.title, series, parts);
}

/** A figure of lines as an SVG document. */
export function lineSvg(figure: LineFigure): string {
  const { lines, x, y, mark } = figure;
  const xs = lines.flatMap(({ points }) => points.map(([at]) => at));
  const ys = lines.flatMap(({ points }) => points.map(([, at]) => at));
  if (mark) ys.push(mark.at);
  const make = ({ log }: Axis, values: number[], from: number, to: number) =>
    log
      ? logarithmic(Math.min(...values), Math.max(...values), from, to)
      : linear(Math.min(0, ...values), Math.max(...values) * 1.05, from, to);
  const across = make(x, xs, PLOT.left, WIDTH - PLOT.right);
  const up = make(y, ys, HEIGHT - PLOT.bottom, PLOT.top);
  const parts = [...yAxis(y, up), ...xAxis(x, across)];
  lines.forEach(({ points }, i) => {
    const path = points.map(([px, py], k) => `${k === 0 ? "M" : "L"}${n(across.at(px))} ${n(up.at(py))}`);
    parts.push(`<path class="l${i}" d="${path.join("")}"/>`);
  });
  if (mark) parts.push(...markLine(up.at(mark.at), mark.label));
  return document(figure.title, lines.map(({ name }) => name), parts);
}

interface Scale {
  at(value: number): number;
  ticks: number[];
}

function linear(low: number, high: number, from: number, to: number): Scale {
  const span = high - low || 1;
  const raw = span / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw)!;
  const ticks: number[] = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) {
    ticks.push(value);
  }
  return { at: (value) => from + (value - low) / span * (to - from), ticks };
}

function logarithmic(low: number, high: number, from: number, to: number): Scale {
  const first = Math.floor(Math.log10(low) + 1e-9),
    last = Math.max(first + 1, Math.ceil(Math.log10(high) - 1e-9));
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  return {
    at: (value) => from + (Math.log10(Math.max(value, 10 ** first)) - first) / (last - first) * (to - from),
    ticks,
  };
}

function yAxis({ label, ticks }: Axis, scale: Scale): string[] {
  const marks = ticks ?? scale.ticks.map((at) => ({ at, label: tick(at) }));
  return [
    text(PLOT.left - 44, PLOT.top - 8, label, "start"),
    ...marks.flatMap((one) => {
      const y = n(scale.at(one.at));
      return [
        `<path class="grid" d="M${PLOT.left} ${y}H${WIDTH - PLOT.right}"/>`,
        text(PLOT.left - 6, scale.at(one.at) + 4, one.label, "end"),
      ];
    }),
  ];
}

function xAxis({ label, ticks }: Axis, scale: Scale): string[] {
  const marks = ticks ?? scale.ticks.map((at) => ({ at, label: tick(at) }));
  return [
    text((WIDTH + PLOT.left) / 2, HEIGHT - 8, label, "middle"),
    ...marks.map((one) => text(scale.at(one.at), HEIGHT - PLOT.bottom + 18, one.label, "middle")),
  ];
}

function markLine(y: number, label: string): string[] {
  return [
    `<path class="mark" d="M${PLOT.left} ${n(y)}H${WIDTH - PLOT.right}"/>`,
    text(WIDTH - PLOT.right, y - 5, label, "end"),
  ];
}

function document(title: string, series: readonly string[], parts: readonly string[]): string {
  let at = PLOT.left;
  const legend = series.flatMap((name, i) => {
    const x = at;
    at += 24 + name.length * 7;
    return [`<rect class="f${i}" x="${x}" y="30" width="10" height="10"/>`, text(x + 14, 39, name, "start")];
  });
  const colours = (list: readonly string[]) =>
    list.map((colour, i) => `.f${i}{fill:${colour}}.l${i}{stroke:${colour}}`).join("");
  const style = "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:14px}" +
    ".grid{stroke:#8886;stroke-width:.5}.spread{stroke:#24292f;stroke-width:1.5}" +
    ".mark{stroke:#24292f;stroke-dasharray:5 4}path{fill:none;stroke-width:2}" + colours(LIGHT) +
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.spread,.mark{stroke:#e6edf3}" + colours(DARK) + "}";
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" ` +
    `aria-label="${escape(title)}">\n<style>${style}</style>\n` +
    `<text class="title" x="${PLOT.left - 44}" y="18">${escape(title)}</text>\n` +
    [...legend, ...parts].join("\n") + "\n</svg>\n";
}

function text(x: number, y: number, words: string, anchor: "start" | "middle" | "end"): string {
  return `<text x="${n(x)}" y="${n(y)}" text-anchor="${anchor}">${escape(words)}</text>`;
}

function tick(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 10_000) return `${Number((value / 1000).toPrecision(3))}k`;
  return String(Number(value.toPrecision(3)));
}

function n(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function escape(words: string): string {
  return words.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
}
