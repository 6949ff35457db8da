// Nodes over time, with their partitions in lanes.
import type { NodeResult, Page, Partitions } from "./document.ts";
import { colour, context, h, section } from "./dom.ts";
import { clip, seconds } from "./format.ts";
import { nodeMark, partitionMark } from "./states.ts";
import type { Section } from "./view.ts";

const NAME = 190;
const BAR = 16;
const LANE = 4;
const LANES = 24;
/** More nodes than these are left to the table; the first to start are drawn. */
const MOST = 60;

export function timelineSection(page: Page): Section {
  const canvas = h("canvas", { role: "img" });
  const holder = h("div", { class: "wide" }, canvas);
  const note = h("p", { class: "note" });
  const element = section("timeline", "Timeline", holder, note);
  let drawn: NodeResult[] = [];
  let lanes = new Map<string, ReturnType<typeof inLanes>>();
  let end = 0.001;
  let colours: Record<string, string> = {};
  const length = (node: NodeResult) => node.seconds ?? Math.max(0, end - (node.started ?? 0));
  const update = (now: Page) => {
    const started = now.nodes.filter((node) => node.started !== null);
    element.hidden = started.length === 0;
    started.sort((a, b) => (a.started ?? 0) - (b.started ?? 0));
    drawn = started.slice(0, MOST);
    end = Math.max(0.001, now.run?.seconds ?? 0, ...started.map((node) => (node.started ?? 0) + (node.seconds ?? 0)));
    lanes = new Map(drawn.map((node) => [node.name, inLanes(now.partitions[node.name])]));
    canvas.setAttribute("aria-label", `Timeline of ${drawn.length} nodes over ${seconds(end)}; the table of nodes has the same times`);
    note.textContent = started.length > MOST ? `The first ${MOST} of ${started.length} nodes are drawn.` : "";
    note.hidden = started.length <= MOST;
    redraw();
  };
  const draw = () => {
    const width = Math.max(300, holder.clientWidth);
    const rows = drawn.map((node) => BAR + 6 + (lanes.get(node.name)?.count ?? 0) * LANE);
    const drawing = context(canvas, width, 24 + rows.reduce((a, b) => a + b, 0));
    if (drawing === null) return;
    const x = (time: number) => NAME + (time / end) * (width - NAME - 10);
    drawing.font = "12px system-ui, sans-serif";
    drawing.fillStyle = colour("soft");
    for (let i = 0; i <= 4; i += 1) {
      drawing.textAlign = i === 4 ? "right" : "center";
      drawing.fillText(seconds((end * i) / 4), x((end * i) / 4), 12);
      drawing.fillRect(x((end * i) / 4), 18, 1, 4);
    }
    drawing.textAlign = "left";
    let top = 24;
    drawn.forEach((node, row) => {
      const [from, to] = [node.started ?? 0, (node.started ?? 0) + length(node)];
      drawing.fillStyle = colour("ink");
      drawing.fillText(clip(node.name, 26), 0, top + 12);
      drawing.fillStyle = colour(nodeMark(node.state).colour);
      drawing.fillRect(x(from), top, Math.max(2, x(to) - x(from)), BAR);
      for (const bar of lanes.get(node.name)?.bars ?? []) {
        drawing.fillStyle = colours[bar.state] ?? "";
        drawing.fillRect(x(bar.from), top + BAR + 2 + bar.lane * LANE, Math.max(1, x(bar.to) - x(bar.from) - 0.5), LANE - 1);
      }
      top += rows[row] ?? 0;
    });
  };
  function redraw(): void {
    colours = Object.fromEntries([..."dsfm"].map((state) => [state, colour(partitionMark(state).colour)]));
    draw();
  }
  update(page);
  new ResizeObserver(redraw).observe(holder);
  document.addEventListener("theme", redraw);
  return { element, update };
}

interface Bar {
  from: number;
  to: number;
  lane: number;
  state: string;
}

/** Each partition in the first lane that is free; those beyond the last lane share it. */
function inLanes(partitions: Partitions | undefined): { bars: Bar[]; count: number } {
  const bars: Bar[] = [];
  partitions?.ended.forEach((to, i) => {
    const length = partitions.seconds[i];
    if (to !== null && length !== null && length !== undefined) bars.push({ from: Math.max(0, to - length), to, lane: 0, state: partitions.states[i] ?? "m" });
  });
  bars.sort((a, b) => a.from - b.from);
  const free: number[] = [];
  for (const bar of bars) {
    let lane = free.findIndex((until) => until <= bar.from);
    if (lane < 0) lane = Math.min(free.length, LANES - 1);
    bar.lane = lane;
    free[lane] = bar.to;
  }
  return { bars, count: free.length };
}
