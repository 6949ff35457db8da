// The section of partitions: for each node its counts, its grid and a table of what failed.
import type { Page, Partitions } from "./document.ts";
import { h, section } from "./dom.ts";
import { clip, count } from "./format.ts";
import { grid } from "./grid.ts";
import { partitionMark } from "./states.ts";

/** Rows of the table of failed partitions; the grid has all. */
const FAILED = 100;

export function partitionsSection(page: Page): HTMLElement | null {
  const nodes = Object.entries(page.partitions);
  if (nodes.length === 0) return null;
  const causes = page.run?.summary?.causes ?? [];
  const place = h("div");
  const choice = h("select", { "aria-label": "Node whose partitions are shown" });
  for (const [name] of nodes) choice.append(h("option", { value: name }, name));
  const show = () => {
    const partitions = page.partitions[choice.value];
    if (partitions === undefined) return;
    const cause = (node: string) => (error: string) => {
      const found = causes.find((one) => one.node === node && one.error === error);
      return found === undefined ? null : `the same in ${count(found.partitions)} partitions`;
    };
    place.replaceChildren(counts(partitions), grid(choice.value, partitions, cause(choice.value)), failures(partitions));
  };
  choice.addEventListener("change", show);
  const worst = nodes.find(([, partitions]) => partitions.states.includes("f")) ?? nodes[nodes.length - 1];
  if (worst !== undefined) choice.value = worst[0];
  show();
  return section("partitions", "Partitions", h("div", { class: "tools" }, choice), place);
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
