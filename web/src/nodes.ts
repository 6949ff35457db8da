// The table of nodes: what each did, and the change against the run that is compared with.
import type { Figures, NodeResult, Page } from "./document.ts";
import { h, section } from "./dom.ts";
import { bytes, change, count, isLoss, seconds, usd } from "./format.ts";
import type { Selection } from "./selection.ts";
import { nodeMark } from "./states.ts";

/** Rows shown before the rest is asked for. */
const FIRST = 200;

const COLUMNS: { title: string; key: keyof Figures; show: (value: number | null) => string; loss: boolean }[] = [
  { title: "Rows in", key: "rows_in", show: count, loss: true },
  { title: "Rows out", key: "rows_out", show: count, loss: true },
  { title: "Bytes", key: "bytes", show: bytes, loss: true },
  { title: "Time", key: "seconds", show: seconds, loss: false },
  { title: "Requests", key: "requests", show: count, loss: false },
  { title: "Tokens", key: "tokens", show: count, loss: false },
  { title: "Cost", key: "cost_usd", show: usd, loss: false },
];

export function nodesSection(page: Page, selection: Selection): HTMLElement {
  const before = page.compare;
  const body = h("tbody");
  const used = COLUMNS.filter(({ key }) => page.nodes.some((node) => node[key] !== null));
  const add = (nodes: NodeResult[]) => body.append(...nodes.map((node) => row(node)));
  const row = (node: NodeResult) => {
    const mark = nodeMark(node.state);
    const old = before?.nodes[node.name];
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("button", { type: "button", class: "link", click: () => selection.choose(`node:${node.name}`) }, node.name)),
      h("td", { class: `state state-${mark.colour}` }, `${mark.sign} ${mark.label}`),
      ...used.map(({ key, show, loss }) => {
        const difference = change(node[key], old?.[key], show);
        const lost = loss && isLoss(node[key], old?.[key]);
        return h("td", { class: "number" }, show(node[key]), difference !== "" && h("div", { class: lost ? "change loss" : "change" }, lost ? `▼ ${difference}` : difference));
      }),
      h("td", { class: "why" }, node.error ?? node.reason ?? ""),
    );
  };
  add(page.nodes.slice(0, FIRST));
  const more = h("button", { type: "button" }, `Show all ${page.nodes.length} nodes`);
  more.addEventListener("click", () => {
    add(page.nodes.slice(FIRST));
    more.remove();
  });
  const head = h("tr", {}, ...["Node", "Result", ...used.map((column) => column.title), "Why"].map((title) => h("th", { scope: "col" }, title)));
  return section(
    "nodes",
    "Nodes",
    before !== null && h("p", { class: "note" }, `Changes are against run ${before.run} (${before.status}).`),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of nodes" }, h("table", {}, h("thead", {}, head), body)),
    page.nodes.length > FIRST && more,
  );
}
