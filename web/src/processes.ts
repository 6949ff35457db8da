// The table of the processes of a submission: its shards, and the attempts of each.
import type { Page } from "./document.ts";
import { h, section } from "./dom.ts";
import { clock, seconds } from "./format.ts";
import { STATUS } from "./states.ts";

export function processesSection(page: Page): HTMLElement | null {
  const processes = page.run?.processes ?? null;
  if (processes === null) return null;
  const row = (process: (typeof processes)[number]) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, process.shard ?? "all"),
      h("td", { class: `status status-${process.status}` }, STATUS[process.status]),
      h("td", {}, clock(process.started)),
      h("td", { class: "number" }, process.seconds === null ? "" : seconds(process.seconds)),
      h("td", {}, process.run),
    );
  const head = h("tr", {}, ...["Shard", "Result", "Started", "Time", "Run"].map((title) => h("th", { scope: "col" }, title)));
  return section(
    "processes",
    "Processes",
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of processes" }, h("table", {}, h("thead", {}, head), h("tbody", {}, ...processes.map(row)))),
  );
}
