// Builds the page from its document.
import { detailsSection } from "./details.ts";
import { readDocument } from "./document.ts";
import { h } from "./dom.ts";
import { graphSection } from "./graph.ts";
import { messagesSection } from "./messages.ts";
import { nodesSection } from "./nodes.ts";
import { partitionsSection } from "./partitions.ts";
import { ratesSection } from "./rates.ts";
import { Selection } from "./selection.ts";
import { slowestSection } from "./slowest.ts";
import { summary } from "./summary.ts";
import { timelineSection } from "./timeline.ts";

const page = readDocument();
const selection = new Selection();
document.title = page.run === null ? page.title : `Run ${page.run.id}`;
document.getElementById("top")?.append(...summary(page));
const sections: HTMLElement[] = [h("div", { class: "beside" }, graphSection(page, selection), detailsSection(page, selection))];
if (page.run !== null) {
  const all = [nodesSection(page, selection), partitionsSection(page), timelineSection(page), ratesSection(page), slowestSection(page), messagesSection(page)];
  sections.push(...all.flatMap((one) => one ?? []));
}
document.getElementById("content")?.replaceChildren(...sections);
