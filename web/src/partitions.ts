// The section of partitions: for each node its counts, its grid and a table of what failed.
import type { Page, Partitions } from "./document.ts";
import { h, section } from "./dom.ts";
import { clip, count } from "./format.ts";
import { type Grid, grid } from "./grid.ts";
import { partitionMark } from "./states.ts";
import type { Section } from "./view.ts";

/** Rows of the table of failed partitions; the grid has all. */
const FAILED = 100;

export function partitionsSection(first: Page): Section {
  let page = first;
  let shown: { node: string; cells: Grid; totals: HTMLElement; failed: HTMLElement } | null = null;
  let chosen = false;
  const place = h("div");
  const choice = h("select", { "aria-label": "Node whose partitions are shown" });
  const element = section("partitions", "Partitions", h("div", { class: "tools" }, choice), place);
  const causes = (error: string) => {
    const found = page.run?.summary?.causes.find((one) => one.node === choice.value && one.error === error);
    return found === undefined ? null : `the same in ${count(found.partitions)} partitions`;
  };
  const show = () => {
    const partitions = page.partitions[choice.value];
    if (partitions === undefined) return;
    const [totals, failed] = [counts(partitions), failures(partitions)];
    if (shown?.node === choice.value) {
      shown.totals.replaceWith(totals);
      if (shown.failed.innerHTML !== failed.innerHTML) {
        if (failed instanceof HTMLDetailsElement && shown.failed instanceof HTMLDetailsElement) failed.open = shown.failed.open;
        shown.failed.replaceWith(failed);
        shown.failed = failed;
      }
      shown.totals = totals;
      shown.cells.update(partitions);
      return;
    }
    const cells = grid(choice.value, partitions, causes);
    shown = { node: choice.value, cells, totals, failed };
    place.replaceChildren(totals, cells.element, failed);
  };
  const update = (now: Page) => {
    page = now;
    const nodes = Object.entries(page.partitions);
    element.hidden = nodes.length === 0;
    const known = new Set([...choice.options].map((option) => option.value));
    for (const [name] of nodes) if (!known.has(name)) choice.append(h("option", { value: name }, name));
    const worst = nodes.find(([, partitions]) => partitions.states.includes("f")) ?? nodes[nodes.length - 1];
    if (!chosen && worst !== undefined) choice.value = worst[0];
    show();
  };
  choice.addEventListener("change", () => {
    chosen = true;
    show();
  });
  update(first);
  return { element, update };
}

function counts(partitions: Partitions): HTMLElement {
  const numbers: Record<string, number> = { d: 0, s: partitions.unnamed_skipped, f: 0, m: partitions.unnamed_missing };
  for (const state of partitions.states) numbers[state] = (numbers[state] ?? 0) + 1;
  const list = h("ul", { class: "legend" });
  for (const [state, number] of Object.entries(numbers)) {
    const mark = partitionMark(state);
    list.append(h("li", {}, h("i", { class: `swatch state-${mark.colour}`, "aria-hidden": "true" }), `${mark.sign} ${count(number)} ${mark.label}`));
  }
  return list;
}

function failures(partitions: Partitions): HTMLElement {
  const failed = Object.entries(partitions.failures);
  if (failed.length === 0) return h("div");
  const rows = failed.slice(0, FAILED).map(([i, failure]) => h("tr", {}, h("th", { scope: "row" }, partitions.prefix + (partitions.keys[Number(i)] ?? "")), h("td", { class: "number" }, count(failure.attempts)), h("td", { class: "why" }, clip(failure.error, 400))));
  return h(
    "details",
    {},
    h("summary", {}, `Failed partitions (${failed.length > FAILED ? `the first ${FAILED} of ` : ""}${count(failed.length)})`),
    h("table", {}, h("thead", {}, h("tr", {}, ...["Partition", "Attempts", "Error"].map((title) => h("th", { scope: "col" }, title)))), h("tbody", {}, ...rows)),
  );
}
