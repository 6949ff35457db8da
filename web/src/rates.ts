// Rates and concurrency over time, beside their limits.
import type { Page } from "./document.ts";
import { h, section, svg } from "./dom.ts";
import { count, seconds } from "./format.ts";

const BINS = 80;
const [WIDTH, HEIGHT, LEFT, BOTTOM] = [640, 150, 56, 22];

interface Series {
  title: string;
  points: [number, number][];
  limit: number | null;
}

export function ratesSection(page: Page): HTMLElement | null {
  const series = [...fromPartitions(page), ...fromSamples(page)].filter((one) => one.points.some(([, value]) => value > 0));
  if (series.length === 0) return null;
  return section("rates", "Rates and concurrency", h("div", { class: "charts" }, ...series.map(chart)));
}

/** Rows a second and partitions in work, from the ends and durations of partitions. */
function fromPartitions(page: Page): Series[] {
  const done: { from: number; to: number; rows: number }[] = [];
  for (const partitions of Object.values(page.partitions)) {
    partitions.ended.forEach((to, i) => {
      if (to !== null) done.push({ from: Math.max(0, to - (partitions.seconds[i] ?? 0)), to, rows: partitions.rows[i] ?? 0 });
    });
  }
  const end = done.reduce((most, { to }) => Math.max(most, to), 0);
  if (end === 0) return [];
  const size = end / BINS;
  const rows = new Array<number>(BINS).fill(0);
  const busy = new Array<number>(BINS).fill(0);
  const bin = (time: number) => Math.min(BINS - 1, Math.floor(time / size));
  for (const { from, to, rows: some } of done) {
    rows[bin(to)] = (rows[bin(to)] ?? 0) + some / size;
    for (let i = bin(from); i <= bin(to); i += 1) {
      const share = Math.max(0, Math.min(to, (i + 1) * size) - Math.max(from, i * size)) / size;
      busy[i] = (busy[i] ?? 0) + share;
    }
  }
  const points = (values: number[]) => values.map((value, i): [number, number] => [(i + 0.5) * size, value]);
  return [
    { title: "Rows a second", points: points(rows), limit: null },
    { title: "Partitions in work", points: points(busy), limit: null },
  ];
}

function fromSamples(page: Page): Series[] {
  const series: Series[] = [];
  for (const endpoint of new Set(page.samples.map((sample) => sample.endpoint))) {
    const own = page.samples.filter((sample) => sample.endpoint === endpoint);
    const last = own[own.length - 1];
    if (last === undefined) continue;
    series.push(
      { title: `Requests in flight: ${endpoint}`, points: own.map((sample) => [sample.at, sample.in_flight]), limit: last.concurrency },
      { title: `Requests a minute: ${endpoint}`, points: own.map((sample) => [sample.at, sample.requests_per_minute]), limit: last.requests_limit },
      { title: `Tokens a minute: ${endpoint}`, points: own.map((sample) => [sample.at, sample.tokens_per_minute]), limit: last.tokens_limit },
    );
  }
  return series;
}

function chart({ title, points, limit }: Series): HTMLElement {
  const most = Math.max(limit ?? 0, ...points.map(([, value]) => value), 1e-9);
  const end = Math.max(points[points.length - 1]?.[0] ?? 0, 1e-9);
  const x = (time: number) => LEFT + (time / end) * (WIDTH - LEFT - 8);
  const y = (value: number) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - BOTTOM - 12);
  const line = points.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const label = `${title}: at most ${count(Math.round(Math.max(...points.map(([, value]) => value))))}${limit === null ? "" : `, limit ${count(limit)}`}`;
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "chart" },
    svg("line", { x1: LEFT, y1: HEIGHT - BOTTOM, x2: WIDTH - 8, y2: HEIGHT - BOTTOM, class: "axis" }),
    svg("polyline", { points: line, class: "line" }),
    limit === null ? null : svg("line", { x1: LEFT, y1: y(limit), x2: WIDTH - 8, y2: y(limit), class: "limit" }),
    svg("text", { x: LEFT - 6, y: y(most) + 4, class: "end" }, most >= 10 ? count(Math.round(most)) : most.toFixed(1)),
    svg("text", { x: LEFT - 6, y: HEIGHT - BOTTOM + 4, class: "end" }, "0"),
    svg("text", { x: WIDTH - 8, y: HEIGHT - 5, class: "end" }, seconds(end)),
  );
  return h("figure", {}, h("figcaption", {}, limit === null ? title : `${title} (dashed: the limit)`), drawing);
}
