// The live page: asks its server for the runs, follows one, and draws what its events say.
import { dataSection } from "./data.ts";
import { h } from "./dom.ts";
import { type Begun, type Entry, Fold } from "./fold.ts";
import { history } from "./history.ts";
import { View } from "./view.ts";

/** The shortest time between two drawings, in milliseconds. Slow ones are drawn less often. */
const DRAW = 500;

let source: EventSource | null = null;
let chosen: string | null = null;
let latest = true;
let runs: Entry[] = [];

const list = history(choose, (follow) => {
  latest = follow;
  const first = runs[0];
  if (latest && first !== undefined && first.run !== chosen) choose(first.run);
});

const content = document.getElementById("content");
const before = h("div", { id: "live" }, list.element);
content?.before(before);

function say(text: string): void {
  const place = document.getElementById("connection");
  if (place !== null && place.textContent !== text) place.textContent = text;
}

function listed(data: string): void {
  runs = JSON.parse(data) as Entry[];
  list.show(runs, chosen);
  const first = runs[0];
  if (first === undefined) {
    content?.replaceChildren(h("p", { class: "note" }, "No run was recorded yet. One that is started in any terminal appears here."));
  } else if (chosen === null || !runs.some((run) => run.run === chosen) || (latest && first.run !== chosen)) {
    void choose(first.run);
  }
}

/** Follows the list of runs, and the events of one. */
function connect(run: string | null, take: (events: unknown[]) => void, entry: (entry: Entry) => void): void {
  source?.close();
  source = new EventSource(run === null ? "/api/live" : `/api/live?run=${encodeURIComponent(run)}`);
  source.addEventListener("open", () => say("live"));
  source.addEventListener("error", () => say("not connected: is `flow serve` still running?"));
  source.addEventListener("runs", (event) => listed((event as MessageEvent<string>).data));
  source.addEventListener("events", (event) => take(JSON.parse((event as MessageEvent<string>).data) as unknown[]));
  source.addEventListener("run", (event) => entry(JSON.parse((event as MessageEvent<string>).data) as Entry));
}

async function choose(run: string): Promise<void> {
  chosen = run;
  list.show(runs, run);
  source?.close();
  let begun: Begun;
  try {
    const response = await fetch(`/api/runs/${encodeURIComponent(run)}`);
    if (!response.ok) throw new Error(String(response.status));
    begun = (await response.json()) as Begun;
  } catch {
    say("not connected: is `flow serve` still running?");
    connect(null, () => undefined, () => undefined);
    return;
  }
  // Another one was chosen meanwhile.
  if (chosen !== run) return;
  const fold = new Fold(begun);
  const view = new View(fold.page());
  content?.removeAttribute("data-drawn");
  content?.append(dataSection(begun));
  let due: number | undefined;
  let pause = DRAW;
  const draw = () => {
    due = undefined;
    if (chosen !== run) return;
    const begin = performance.now();
    view.update(fold.page());
    pause = Math.max(DRAW, 10 * (performance.now() - begin));
    content?.setAttribute("data-drawn", fold.over ? "over" : "running");
  };
  const changed = () => {
    due ??= window.setTimeout(draw, pause);
  };
  connect(
    run,
    (events) => {
      fold.take(events as Parameters<Fold["take"]>[0]);
      changed();
    },
    (entry) => {
      fold.entry(entry);
      changed();
    },
  );
}

connect(null, () => undefined, () => undefined);
