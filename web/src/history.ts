// The list of runs of the live page.
import { h, section } from "./dom.ts";
import type { Entry } from "./fold.ts";
import { clock, seconds } from "./format.ts";

const SIGNS: Record<string, string> = { ok: "✓", failed: "✗", interrupted: "■", running: "▶", killed: "■" };

/** What a run is a part of. */
const of = (run: Entry): string => (run.shard === null ? "" : ` · shard ${run.shard}`) + (run.group === null ? "" : ` of ${run.group}`);

export interface History {
  element: HTMLElement;
  show(runs: Entry[], chosen: string | null): void;
}

/** A list from which a run is chosen; `follow` says whether the latest one is followed. */
export function history(choose: (run: string) => void, follow: (latest: boolean) => void): History {
  const list = h("select", { "aria-label": "Run that is shown", size: 1 });
  const latest = h("input", { type: "checkbox", id: "latest", checked: true });
  list.addEventListener("change", () => {
    latest.checked = false;
    choose(list.value);
  });
  latest.addEventListener("change", () => follow(latest.checked));
  const together = h("a", { hidden: true, target: "_blank", rel: "noopener" });
  const note = h("span", { class: "note", id: "connection", role: "status" }, "connecting");
  const element = section("history", "Runs", h("div", { class: "tools" }, list, h("label", {}, latest, " follow the latest run"), together, note));
  return {
    element,
    show(runs, chosen) {
      const options = runs.map((run) => {
        const time = run.seconds === null || run.status === "running" ? "" : `, ${seconds(run.seconds)}`;
        return h("option", { value: run.run }, `${SIGNS[run.status] ?? ""} ${run.status} · ${run.pipeline}${of(run)} · ${clock(run.started)}${time}`);
      });
      list.replaceChildren(...options);
      if (chosen !== null) list.value = chosen;
      const group = runs.find((run) => run.run === chosen)?.group ?? null;
      together.hidden = group === null;
      together.href = group === null ? "" : `/report/${encodeURIComponent(group)}`;
      together.textContent = group === null ? "" : `all runs of ${group}`;
      list.disabled = runs.length === 0;
    },
  };
}
