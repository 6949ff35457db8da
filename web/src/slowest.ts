// What took longest and what cost most.
import type { Page } from "./document.ts";
import { h, section } from "./dom.ts";
import { seconds, usd } from "./format.ts";

const TOP = 10;

export function slowestSection(page: Page): HTMLElement | null {
  const partitions: [string, number][] = [];
  for (const [node, { prefix, keys, seconds: times }] of Object.entries(page.partitions)) {
    times.forEach((time, i) => {
      const last = partitions[TOP - 1];
      if (time === null || (last !== undefined && time <= last[1])) return;
      partitions.push([`${node} · ${prefix}${keys[i] ?? ""}`, time]);
      partitions.sort((a, b) => b[1] - a[1]);
      partitions.length = Math.min(partitions.length, TOP);
    });
  }
  const top = (key: "seconds" | "cost_usd") =>
    page.nodes
      .flatMap((node): [string, number][] => (node[key] ? [[node.name, node[key] ?? 0]] : []))
      .sort((a, b) => b[1] - a[1])
      .slice(0, TOP);
  const lists = [list("Slowest nodes", top("seconds"), seconds), list("Slowest partitions", partitions, seconds), list("Most expensive nodes", top("cost_usd"), usd)].filter((one) => one !== null);
  return lists.length === 0 ? null : section("slowest", "Slowest and most expensive", h("div", { class: "charts" }, ...lists));
}

function list(title: string, rows: [string, number][], show: (value: number) => string): HTMLElement | null {
  if (rows.length === 0) return null;
  return h("div", {}, h("h3", {}, title), h("ol", { class: "top" }, ...rows.map(([name, value]) => h("li", {}, h("span", { class: "name" }, name), " ", h("b", {}, show(value))))));
}
