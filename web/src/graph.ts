// The graph: boxes coloured by result, searched, chosen with the mouse or the keyboard, moved and scaled.
import type { Edge, Page } from "./document.ts";
import { h, section, svg } from "./dom.ts";
import { clip } from "./format.ts";
import { path, place, type Point } from "./graph-layout.ts";
import { around, LARGE } from "./neighbourhood.ts";
import type { Selection } from "./selection.ts";
import { nodeMark } from "./states.ts";
import type { Section } from "./view.ts";

interface Shown {
  id: string;
  name: string;
  sub: string;
  label: string;
  className: string;
}

const LABEL = 36;

export function graphSection(page: Page, selection: Selection): Section {
  let boxes = describe(page);
  const edges = page.graph.edges.filter((edge) => boxes.has(edge.from) && boxes.has(edge.to));
  const large = boxes.size > LARGE;
  let shown: Set<string> = large ? around(first(page, boxes), edges) : new Set(boxes.keys());
  const drawing = h("div", { class: "drawing" });
  const note = h("p", { class: "note", role: "status" });
  const names = h("datalist", { id: "names" });
  for (const box of [...boxes.values()].slice(0, 5000)) names.append(h("option", { value: box.name }));
  const search = h("input", { type: "search", list: "names", placeholder: "Find a node or dataset", "aria-label": "Find a node or dataset" });
  search.addEventListener("change", () => {
    const found = [...boxes.values()].find((box) => box.name === search.value) ?? [...boxes.values()].find((box) => box.name.includes(search.value));
    if (search.value === "" || found === undefined) return;
    if (!shown.has(found.id)) neighbourhood(found.id);
    selection.choose(found.id);
  });
  const tools = h("div", { class: "tools" }, search, names);
  const button = (text: string, act: () => void) => tools.append(h("button", { type: "button", click: act }, text));
  let view: View | null = null;
  button("Fit", () => view?.fit());
  button("Larger", () => view?.scale(0.8));
  button("Smaller", () => view?.scale(1.25));
  if (large) {
    button("Neighbourhood", () => neighbourhood(selection.id ?? first(page, boxes)));
    button("Everything", () => {
      shown = new Set(boxes.keys());
      draw();
    });
  }

  function neighbourhood(id: string): void {
    shown = around(id, edges);
    draw();
  }

  function draw(): void {
    const some = [...shown].flatMap((id) => boxes.get(id) ?? []);
    view = render(some, edges.filter((edge) => shown.has(edge.from) && shown.has(edge.to)), selection);
    drawing.replaceChildren(view.element);
    note.textContent = shown.size < boxes.size ? `${some.length} of ${boxes.size} boxes are drawn: choose one, then “Neighbourhood”, to move on.` : `${page.graph.nodes.length} nodes, ${page.graph.datasets.length} datasets.`;
    view.mark(selection.id);
  }

  selection.onChange((id) => view?.mark(id));
  draw();
  return {
    element: section("graph", "Graph", tools, drawing, note),
    update(now) {
      boxes = describe(now);
      view?.paint(boxes);
    },
  };
}

function describe(page: Page): Map<string, Shown> {
  const results = new Map(page.nodes.map((node) => [node.name, node]));
  const boxes = new Map<string, Shown>();
  for (const node of page.graph.nodes) {
    const result = results.get(node.name);
    const waits = page.run?.status === "running" ? nodeMark("waiting") : null;
    const mark = page.run === null ? null : result === undefined ? waits : nodeMark(result.state);
    boxes.set(node.id, {
      id: node.id,
      name: node.name,
      sub: mark === null ? node.function : `${mark.sign} ${mark.label}`,
      label: `node ${node.name}, function ${node.function}${mark === null ? "" : `, ${mark.label}`}`,
      className: `box node ${mark === null ? "" : `state-${mark.colour}`}`,
    });
  }
  for (const dataset of page.graph.datasets) {
    boxes.set(dataset.id, {
      id: dataset.id,
      name: dataset.name,
      sub: dataset.type,
      label: `dataset ${dataset.name}, type ${dataset.type}`,
      className: `box dataset${dataset.free ? " free" : ""}${dataset.persistent ? "" : " memory"}`,
    });
  }
  return boxes;
}

/** Where a large graph opens: at what failed, or at the slowest node. */
function first(page: Page, boxes: Map<string, Shown>): string {
  const failed = page.nodes.find((node) => node.state === "failed");
  const slowest = [...page.nodes].sort((a, b) => (b.seconds ?? 0) - (a.seconds ?? 0))[0];
  const id = `node:${(failed ?? slowest)?.name ?? ""}`;
  return boxes.has(id) ? id : (boxes.keys().next().value ?? "");
}

interface View {
  element: SVGSVGElement;
  fit(): void;
  scale(factor: number): void;
  mark(id: string | null): void;
  /** Shows what boxes are now. */
  paint(boxes: Map<string, Shown>): void;
}

function render(boxes: Shown[], edges: Edge[], selection: Selection): View {
  const sizes = boxes.map((box) => ({
    id: box.id,
    width: Math.max(60, [...clip(box.name, LABEL)].length * 7.6, [...clip(box.sub, LABEL)].length * 6.6) + 26,
    height: 44,
  }));
  const placed = place(sizes, edges);
  const element = svg("svg", { class: "graph", role: "group", "aria-label": "Graph: arrow keys move between boxes, Enter chooses" });
  const lines = placed.edges.map(({ edge, points }) => {
    const line = svg("path", { class: `edge${edge.kind === "after" ? " after" : ""}`, d: path(points) });
    element.append(line);
    return { edge, line };
  });
  const groups = new Map<string, SVGGElement>();
  boxes.forEach((box, i) => {
    const size = sizes[i];
    const at = placed.boxes.get(box.id);
    if (size === undefined || at === undefined) return;
    const group = svg(
      "g",
      { class: box.className, role: "button", tabindex: i === 0 ? 0 : -1, "aria-pressed": "false", "data-id": box.id, transform: `translate(${at.x.toFixed(1)} ${at.y.toFixed(1)})` },
      svg("title", {}, box.label),
      svg("rect", { x: -size.width / 2, y: -size.height / 2, width: size.width, height: size.height, rx: box.id.startsWith("node:") ? 6 : 20 }),
      svg("text", { y: -3 }, clip(box.name, LABEL)),
      svg("text", { y: 14, class: "sub" }, clip(box.sub, LABEL)),
    );
    group.addEventListener("click", () => selection.choose(box.id));
    groups.set(box.id, group);
    element.append(group);
  });
  const window = { x: 0, y: 0, width: placed.width, height: placed.height };
  const show = () => element.setAttribute("viewBox", `${window.x} ${window.y} ${window.width} ${window.height}`);
  const view: View = {
    element,
    fit() {
      Object.assign(window, { x: 0, y: 0, width: placed.width, height: placed.height });
      show();
    },
    scale(factor) {
      window.x += (window.width * (1 - factor)) / 2;
      window.y += (window.height * (1 - factor)) / 2;
      window.width *= factor;
      window.height *= factor;
      show();
    },
    paint(now) {
      for (const [id, group] of groups) {
        const box = now.get(id);
        if (box === undefined) continue;
        const chosen = group.classList.contains("chosen");
        group.setAttribute("class", chosen ? `${box.className} chosen` : box.className);
        const [title, sub] = [group.querySelector("title"), group.querySelector("text.sub")];
        if (title !== null) title.textContent = box.label;
        if (sub !== null) sub.textContent = clip(box.sub, LABEL);
      }
    },
    mark(id) {
      for (const [key, group] of groups) {
        group.classList.toggle("chosen", key === id);
        group.setAttribute("aria-pressed", String(key === id));
      }
      for (const { edge, line } of lines) line.classList.toggle("lit", edge.from === id || edge.to === id);
    },
  };
  view.fit();
  movable(element, window, show);
  withKeys(element, groups, placed.boxes, selection);
  return view;
}

function movable(element: SVGSVGElement, window: { x: number; y: number; width: number; height: number }, show: () => void): void {
  let from: { x: number; y: number } | null = null;
  element.addEventListener("pointerdown", (event) => (from = { x: event.clientX, y: event.clientY }));
  element.addEventListener("pointermove", (event) => {
    if (from === null || event.buttons === 0) return;
    const unit = Math.max(window.width / element.clientWidth, window.height / element.clientHeight);
    window.x -= (event.clientX - from.x) * unit;
    window.y -= (event.clientY - from.y) * unit;
    from = { x: event.clientX, y: event.clientY };
    show();
  });
  for (const end of ["pointerup", "pointerleave"]) element.addEventListener(end, () => (from = null));
}

/** Arrow keys go to the nearest box in their direction; Enter and space choose it. */
function withKeys(element: SVGSVGElement, groups: Map<string, SVGGElement>, places: Map<string, Point>, selection: Selection): void {
  const directions: Record<string, Point> = { ArrowLeft: { x: -1, y: 0 }, ArrowRight: { x: 1, y: 0 }, ArrowUp: { x: 0, y: -1 }, ArrowDown: { x: 0, y: 1 } };
  element.addEventListener("keydown", (event) => {
    const id = (event.target as Element).getAttribute("data-id");
    const here = id === null ? undefined : places.get(id);
    if (id === null || here === undefined) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      selection.choose(id);
      return;
    }
    const to = directions[event.key];
    if (to === undefined) return;
    event.preventDefault();
    let best: { id: string; cost: number } | null = null;
    for (const [other, at] of places) {
      const [x, y] = [at.x - here.x, at.y - here.y];
      const ahead = x * to.x + y * to.y;
      if (other === id || ahead <= 1) continue;
      const cost = ahead + 3 * Math.abs(x * to.y + y * to.x);
      if (best === null || cost < best.cost) best = { id: other, cost };
    }
    const next = best === null ? undefined : groups.get(best.id);
    if (next === undefined) return;
    groups.get(id)?.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });
}
