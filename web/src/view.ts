// The sections of the page for a document, and for later ones of the same run.
import { detailsSection } from "./details.ts";
import type { Page } from "./document.ts";
import { h } from "./dom.ts";
import { graphSection } from "./graph.ts";
import { messagesSection } from "./messages.ts";
import { nodesSection } from "./nodes.ts";
import { partitionsSection } from "./partitions.ts";
import { processesSection } from "./processes.ts";
import { ratesSection } from "./rates.ts";
import { Selection } from "./selection.ts";
import { slowestSection } from "./slowest.ts";
import { summary } from "./summary.ts";
import { timelineSection } from "./timeline.ts";

/** A part of the page that can be shown for a later document; it is hidden when it has nothing to show. */
export interface Section {
  element: HTMLElement;
  update(page: Page): void;
}

/** The page in the elements `#top` and `#content`. */
export class View {
  #sections: Section[];

  constructor(page: Page) {
    const selection = new Selection();
    const graph = graphSection(page, selection);
    const details = detailsSection(page, selection);
    this.#sections = [graph, details];
    const elements: HTMLElement[] = [h("div", { class: "beside" }, graph.element, details.element)];
    if (page.run !== null) {
      const all = [built(processesSection, page, selection), built(nodesSection, page, selection), partitionsSection(page), timelineSection(page), built(ratesSection, page, selection), built(slowestSection, page, selection), built(messagesSection, page, selection)];
      this.#sections.push(...all);
      elements.push(...all.map((section) => section.element));
    }
    head(page);
    document.getElementById("content")?.replaceChildren(...elements);
  }

  /** Shows a later document of the same run. */
  update(page: Page): void {
    head(page);
    for (const section of this.#sections) section.update(page);
  }
}

function head(page: Page): void {
  document.title = page.run === null ? page.title : `Run ${page.run.id}`;
  const top = document.getElementById("top");
  if (top !== null) keepingFocus(top, () => top.replaceChildren(...summary(page)));
}

/** A section that is built anew for each document: it has no state but its focus, its place and what is open. */
function built(build: (page: Page, selection: Selection) => HTMLElement | null, page: Page, selection: Selection): Section {
  const element = h("div");
  let shown = "";
  const update = (now: Page) => {
    const made = build(now, selection);
    const html = made?.outerHTML ?? "";
    // Most sections stay as they are most of the time.
    if (html === shown) return;
    shown = html;
    const top = element.querySelector(".scroll")?.scrollTop ?? 0;
    keepingFocus(element, () => element.replaceChildren(...(made === null ? [] : [made])));
    const scroll = element.querySelector(".scroll");
    if (scroll !== null) scroll.scrollTop = top;
  };
  update(page);
  return { element, update };
}

/** The focus stays where it was, in the order of what can have it. */
function keepingFocus(element: HTMLElement, change: () => void): void {
  const places = () => [...element.querySelectorAll<HTMLElement>("button, select, [tabindex]")];
  const at = places().findIndex((place) => place === document.activeElement);
  change();
  if (at >= 0) places()[at]?.focus({ preventScroll: true });
}
