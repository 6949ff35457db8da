// What is chosen in the graph, in words.
import type { Page } from "./document.ts";
import { facts, h, section } from "./dom.ts";
import { bytes, count, seconds, usd } from "./format.ts";
import type { Selection } from "./selection.ts";
import { nodeMark } from "./states.ts";
import type { Section } from "./view.ts";

export function detailsSection(first: Page, selection: Selection): Section {
  let page = first;
  const body = h("div", { "aria-live": "polite" }, h("p", { class: "note" }, "Choose a box of the graph or a row of the table."));
  selection.onChange((id) => body.replaceChildren(...describe(page, id)));
  return {
    element: section("details", "Details", body),
    update(now) {
      page = now;
      if (selection.id === null) return;
      const parts = describe(page, selection.id);
      const holder = h("div", {}, ...parts);
      // What did not change is not read out again.
      if (holder.innerHTML !== body.innerHTML) body.replaceChildren(...holder.childNodes);
    },
  };
}

function describe(page: Page, id: string | null): Node[] {
  const node = page.graph.nodes.find((one) => one.id === id);
  if (node !== undefined) {
    const result = page.run === null ? undefined : page.nodes.find((one) => one.name === node.name);
    const ports = (list: { port: string; name: string }[]) => list.map((port) => h("div", {}, `${port.port}: `, h("code", {}, port.name)));
    return [
      h("h3", {}, node.name),
      facts(
        ["Function", node.function],
        ["Result", result === undefined ? null : `${nodeMark(result.state).sign} ${nodeMark(result.state).label}`],
        ["Why", result?.reason ?? null],
        ["Error", result?.error ? h("pre", { class: "error" }, result.error) : null],
        ["Rows in", result === undefined || result.rows_in === null ? null : count(result.rows_in)],
        ["Rows out", result === undefined || result.rows_out === null ? null : count(result.rows_out)],
        ["Bytes", result === undefined || result.bytes === null ? null : bytes(result.bytes)],
        ["Time", result === undefined || result.seconds === null ? null : seconds(result.seconds)],
        ["Cost", result === undefined || result.cost_usd === null ? null : usd(result.cost_usd)],
        ["Pipelines", node.pipelines.join(", ")],
        ["Tags", node.tags.join(", ")],
        ["Inputs", ports(node.inputs)],
        ["Outputs", ports(node.outputs)],
      ),
    ];
  }
  const dataset = page.graph.datasets.find((one) => one.id === id);
  if (dataset === undefined) return [h("p", { class: "note" }, "Nothing is chosen.")];
  const users = (end: "from" | "to", other: "from" | "to") =>
    page.graph.edges.filter((edge) => edge[end] === id).map((edge) => h("div", {}, edge[other].replace(/^node:/, "")));
  return [
    h("h3", {}, dataset.name),
    facts(
      ["Type", dataset.type],
      ["Location", dataset.location === null ? "memory" : h("code", {}, dataset.location)],
      ["Layer", dataset.layer],
      ["Written by", users("to", "from")],
      ["Read by", users("from", "to")],
    ),
  ];
}
