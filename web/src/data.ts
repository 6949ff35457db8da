// Previews of data on the live page, when they are asked for.
import type { Page } from "./document.ts";
import { h, section } from "./dom.ts";
import { bytes, count } from "./format.ts";

interface Preview {
  name: string;
  location: string | null;
  error?: string;
  value: string | null;
  columns: { name: string; type: string; nullable: boolean }[] | null;
  rows: string[][] | null;
  partitions: { partition: string; bytes: number; rows: number | null }[] | null;
  more_partitions: number;
}

export function dataSection(page: Page): HTMLElement {
  const choice = h("select", { "aria-label": "Dataset that is shown" });
  for (const { name } of page.graph.datasets) choice.append(h("option", { value: name }, name));
  const place = h("div", { class: "preview" });
  const button = h("button", { type: "button" }, "Show the first rows");
  const said = h("p", { class: "note", role: "status" });
  button.addEventListener("click", async () => {
    const name = choice.value;
    button.disabled = true;
    said.textContent = `Reading ${name} …`;
    try {
      const response = await fetch(`/api/datasets/${encodeURIComponent(name)}`);
      const preview = (await response.json()) as Preview;
      said.textContent = preview.error === undefined ? `${preview.name}${preview.location === null ? "" : ` in ${preview.location}`}` : `${name}: ${preview.error}`;
      place.replaceChildren(...(preview.error === undefined ? tables(preview) : []));
    } catch {
      said.textContent = "The server does not respond: is `flow serve` still running?";
    }
    button.disabled = false;
  });
  return section("datasets", "Data", h("div", { class: "tools" }, choice, button), said, place);
}

function tables(preview: Preview): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (preview.value !== null) parts.push(h("pre", {}, preview.value));
  if (preview.columns !== null) {
    const head = preview.columns.map(({ name, type, nullable }) => h("th", { scope: "col" }, name, h("div", { class: "type" }, nullable ? type : `${type}, not null`)));
    const rows = (preview.rows ?? []).map((cells) => h("tr", {}, ...cells.map((cell) => h("td", {}, cell))));
    parts.push(table("First rows", h("tr", {}, ...head), rows));
  }
  if (preview.partitions !== null) {
    const rows = preview.partitions.map((one) => h("tr", {}, h("th", { scope: "row" }, one.partition), h("td", { class: "number" }, bytes(one.bytes)), h("td", { class: "number" }, count(one.rows))));
    const head = h("tr", {}, ...["Partition", "Bytes", "Rows"].map((title) => h("th", { scope: "col" }, title)));
    const more = preview.more_partitions > 0 ? `, the first ${count(preview.partitions.length)} of ${count(preview.partitions.length + preview.more_partitions)}` : "";
    parts.push(h("details", {}, h("summary", {}, `Partitions (${count(preview.partitions.length)}${more})`), table("Partitions", head, rows)));
  }
  return parts;
}

function table(label: string, head: HTMLElement, rows: HTMLElement[]): HTMLElement {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, h("table", {}, h("thead", {}, head), h("tbody", {}, ...rows)));
}
