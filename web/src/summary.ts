// The head of the page: which run this is, how it ended, its totals, and the switch between light and dark.
import type { Page } from "./document.ts";
import { facts, h } from "./dom.ts";
import { clock, count, seconds, usd } from "./format.ts";
import { STATUS } from "./states.ts";

export function summary(page: Page): Node[] {
  const run = page.run;
  const theme = h("button", { type: "button", class: "theme", click: switchTheme }, "Light or dark");
  const title = h("h1", {}, run === null ? page.title : `Run ${run.id}`);
  if (run === null) return [h("div", { class: "title" }, title, theme)];
  const { summary: totals } = run;
  const tally = (numbers: Record<string, number> | undefined) =>
    Object.entries(numbers ?? {})
      .filter(([, number]) => number > 0)
      .map(([name, number]) => `${count(number)} ${name}`)
      .join(", ");
  const some = (value: number | undefined, show: (value: number) => string) => (value ? show(value) : null);
  return [
    h("div", { class: "title" }, title, h("strong", { class: `status status-${run.status}` }, STATUS[run.status]), theme),
    facts(
      ["Pipeline", run.pipeline ?? "all"],
      ["Environment", run.env],
      ["Started", clock(run.started)],
      ["Time", run.seconds === null ? null : seconds(run.seconds)],
      ["Nodes", tally(totals?.nodes)],
      ["Partitions", tally(totals?.partitions)],
      ["Rows", tally(totals?.rows)],
      ["Requests", some(totals?.requests, count)],
      ["Retries", some(totals?.retries, count)],
      ["Throttled", some(totals?.throttled, count)],
      ["Tokens", some(totals?.tokens, count)],
      ["Cost", some(totals?.cost_usd, usd)],
      ["Saved by the cache", some(totals?.saved_usd, usd)],
    ),
  ];
}

function switchTheme(): void {
  const root = document.documentElement;
  const dark = root.dataset["theme"] === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : root.dataset["theme"] === "dark";
  root.dataset["theme"] = dark ? "light" : "dark";
  document.dispatchEvent(new Event("theme"));
}
