// The partitions of one node as a grid of cells. Only the visible rows are drawn, so any number of partitions fits.
import type { Partitions } from "./document.ts";
import { colour, context, facts, h } from "./dom.ts";
import { count, seconds } from "./format.ts";
import { partitionMark } from "./states.ts";

const CELL = 12;
const HEIGHT = 264;

/** A grid that can be drawn for later partitions of the same node. */
export interface Grid {
  element: HTMLElement;
  update(partitions: Partitions): void;
}

export function grid(node: string, first: Partitions, causes: (error: string) => string | null): Grid {
  let partitions = first;
  let total = partitions.keys.length;
  const canvas = h("canvas", { "aria-hidden": "true" });
  const space = h("div", { class: "space" }, canvas);
  const scroller = h("div", { class: "grid", tabindex: 0, role: "application", "aria-label": `Partitions of ${node}: arrow keys move, Home and End jump, F goes to the next failed one` }, space);
  const details = h("div", { class: "partition", role: "status" });
  let cursor = -1;
  let columns = 1;

  function draw(): void {
    const width = Math.max(CELL, scroller.clientWidth - 2 || 800);
    columns = Math.max(1, Math.floor(width / CELL));
    const rows = Math.ceil(total / columns);
    space.style.height = `${rows * CELL}px`;
    const height = Math.min(HEIGHT, rows * CELL);
    scroller.style.height = `${height + 2}px`;
    const drawing = context(canvas, width, height);
    if (drawing === null) return;
    const colours: Record<string, string> = {};
    for (const state of "dsfm") colours[state] = colour(partitionMark(state).colour);
    const top = Math.floor(scroller.scrollTop / CELL);
    const last = Math.min(total, (top + Math.ceil(height / CELL) + 1) * columns);
    for (let i = top * columns; i < last; i += 1) {
      const [x, y] = [(i % columns) * CELL, Math.floor(i / columns) * CELL - scroller.scrollTop];
      const state = partitions.states[i] ?? "m";
      drawing.fillStyle = colours[state] ?? "";
      drawing.fillRect(x, y, CELL - 2, CELL - 2);
      if (state === "f") {
        drawing.fillStyle = colour("paper");
        drawing.fillRect(x + 3, y + 4, CELL - 8, 2);
      }
      if (i === cursor) {
        drawing.strokeStyle = colour("mark");
        drawing.lineWidth = 2;
        drawing.strokeRect(x, y, CELL - 2, CELL - 2);
      }
    }
  }

  function choose(i: number): void {
    if (i < 0 || i >= total) return;
    cursor = i;
    const y = Math.floor(i / columns) * CELL;
    if (y < scroller.scrollTop) scroller.scrollTop = y;
    if (y + CELL > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = y + CELL - scroller.clientHeight;
    details.replaceChildren(...describe(partitions, i, causes));
    draw();
  }

  scroller.addEventListener("scroll", draw, { passive: true });
  scroller.addEventListener("click", (event) => {
    const at = scroller.getBoundingClientRect();
    const column = Math.floor((event.clientX - at.left) / CELL);
    if (column < columns) choose(Math.floor((event.clientY - at.top + scroller.scrollTop) / CELL) * columns + column);
  });
  scroller.addEventListener("keydown", (event) => {
    const steps: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
    const step = steps[event.key];
    if (step !== undefined) choose(cursor < 0 ? 0 : cursor + step);
    else if (event.key === "Home") choose(0);
    else if (event.key === "End") choose(total - 1);
    else if (event.key === "f" || event.key === "F") choose(next(partitions.states, cursor));
    else return;
    event.preventDefault();
  });
  new ResizeObserver(draw).observe(scroller);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.addEventListener("theme", draw);
  return {
    element: h("div", {}, scroller, details),
    update(now) {
      const same = now.keys.length === total && now.states === partitions.states;
      partitions = now;
      total = now.keys.length;
      if (same) return;
      if (cursor >= 0) details.replaceChildren(...describe(partitions, cursor, causes));
      draw();
    },
  };
}

function next(states: string, cursor: number): number {
  const after = states.indexOf("f", cursor + 1);
  return after >= 0 ? after : states.indexOf("f");
}

function describe(partitions: Partitions, i: number, causes: (error: string) => string | null): Node[] {
  const key = partitions.prefix + (partitions.keys[i] ?? "");
  const mark = partitionMark(partitions.states[i] ?? "m");
  const failure = partitions.failures[String(i)];
  const known = <T>(value: T | null | undefined, show: (value: T) => string) => (value === null || value === undefined ? null : show(value));
  return [
    h("h3", {}, key),
    facts(
      ["Result", `${mark.sign} ${mark.label}`],
      ["Error", failure === undefined ? null : h("pre", { class: "error" }, failure.error)],
      ["Cause", failure === undefined ? null : causes(failure.error)],
      ["Attempts", failure === undefined ? null : count(failure.attempts)],
      ["Rows", known(partitions.rows[i], count)],
      ["Time", known(partitions.seconds[i], seconds)],
      ["Ended after", known(partitions.ended[i], seconds)],
      ["Files", partitions.location === null ? null : h("code", {}, `${partitions.location.replace(/\/$/, "")}/${key}`)],
    ),
  ];
}
