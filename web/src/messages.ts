// Warnings, failures and what was waited for, in the order of time.
import type { Page } from "./document.ts";
import { h, section } from "./dom.ts";
import { seconds } from "./format.ts";

const FIRST = 200;
const SIGNS = { info: "ℹ", warning: "⚠ warning", error: "✗ error" };

export function messagesSection(page: Page): HTMLElement | null {
  if (page.messages.length === 0) return null;
  const rows = page.messages
    .slice(0, FIRST)
    .map(({ at, level, node, text }) => h("li", { class: `message ${level}` }, h("span", { class: "at" }, seconds(at)), ` ${SIGNS[level]} `, node !== null && h("b", {}, `${node}: `), h("span", { class: "text" }, text)));
  return section("messages", "Messages", h("ol", { class: "messages" }, ...rows), page.messages.length > FIRST && h("p", { class: "note" }, `The first ${FIRST} of ${page.messages.length}.`));
}
