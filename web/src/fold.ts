// Makes the document of the page from the events of a run, as they come. `src/report/page.rs` does the same for a report; a
// test compares the two.
import type { Figures, Message, NodeResult, NodeState, Page, Partitions, Run, Sample, Summary } from "./document.ts";

/** A line of the ledger. */
type Event = Record<string, unknown> & { kind: string; elapsed: number };

const MESSAGES = 1000;
const SAMPLES = 4000;

/** A document whose events are still to come, with the places where nodes write. */
export type Begun = Page & { locations: Record<string, string> };

/** What the ledger says of a run in its list. */
export interface Entry {
  run: string;
  status: Run["status"];
  seconds: number | null;
  started: string | null;
  pipeline: string;
  group: string | null;
  shard: string | null;
}

interface Cells {
  total: number;
  skipped: number;
  keys: string[];
  index: Map<string, number>;
  states: string[];
  ended: (number | null)[];
  seconds: (number | null)[];
  rows: (number | null)[];
  failures: Map<number, { error: string; attempts: number }>;
}

const NOTHING: Figures = { rows_in: null, rows_out: null, bytes: null, seconds: null, requests: null, tokens: null, cost_usd: null };

const text = (value: unknown): string => (typeof value === "string" ? value : "");
const number = (value: unknown): number => (typeof value === "number" ? value : 0);
const known = (value: unknown): number | null => (typeof value === "number" ? value : null);
const rounded = (value: number): number => Math.round(value * 1000) / 1000;

/** The events of a run so far. */
export class Fold {
  readonly #begun: Begun;
  #run: Run;
  #summary: Summary | null = null;
  #nodes: NodeResult[] = [];
  #index = new Map<string, NodeResult>();
  #whole = new Set<string>();
  #cells = new Map<string, Cells>();
  #messages: Message[] = [];
  #more = 0;
  #samples: Sample[] = [];
  #last = 0;

  constructor(begun: Begun) {
    this.#begun = begun;
    this.#run = begun.run ?? { id: "", status: "running", started: null, seconds: null, pipeline: null, env: null, summary: null, processes: null };
  }

  /** What the list of runs says of this one. */
  entry(entry: Entry): void {
    this.#run = { ...this.#run, status: entry.status, seconds: entry.seconds };
  }

  get over(): boolean {
    return this.#run.status !== "running";
  }

  take(events: Event[]): void {
    for (const event of events) {
      // What is JSON and no event is left out, as what is no JSON is.
      if (typeof event !== "object" || event === null) continue;
      this.#last = Math.max(this.#last, number(event.elapsed));
      this.#event(event);
    }
  }

  #event(event: Event): void {
    const at = number(event.elapsed);
    const node = text(event["node"]);
    switch (event.kind) {
      case "run.started":
        this.#run = { ...this.#run, pipeline: text(event["pipeline"]) || null, env: text(event["env"]) || null };
        break;
      case "node.skipped":
        this.#node(node, "skipped").reason = text(event["reason"]);
        break;
      case "node.started": {
        const total = known(event["partitions"]);
        const skipped = number(event["skipped"]);
        if (total !== null) this.#cells.set(node, { total, skipped, keys: [], index: new Map(), states: [], ended: [], seconds: [], rows: [], failures: new Map() });
        const result = this.#node(node, "running");
        result.reason = text(event["reason"]);
        result.started = rounded(at);
        if (skipped === 0) this.#whole.add(node);
        else this.#whole.delete(node);
        break;
      }
      case "partition.finished": {
        const cells = this.#cells.get(node);
        if (cells !== undefined) cells.failures.delete(end(cells, text(event["partition"]), "d", rounded(at), rounded(number(event["seconds"])), number(event["rows"])));
        break;
      }
      case "partitions.skipped": {
        const cells = this.#cells.get(node);
        const keys: unknown = event["partitions"];
        for (const key of Array.isArray(keys) ? keys : []) {
          if (cells === undefined) break;
          end(cells, text(key), "s", null, null, null);
          cells.skipped = Math.max(0, cells.skipped - 1);
        }
        break;
      }
      case "partition.failed": {
        const cells = this.#cells.get(node);
        if (cells === undefined) break;
        const i = end(cells, text(event["partition"]), "f", rounded(at), rounded(number(event["attempt_seconds"])), null);
        cells.failures.set(i, { error: text(event["error"]), attempts: (cells.failures.get(i)?.attempts ?? 0) + 1 });
        break;
      }
      case "node.finished":
        Object.assign(this.#node(node, "done"), figures(event), { rows_out: number(event["rows"]), seconds: rounded(number(event["seconds"])) });
        break;
      case "node.failed": {
        this.#say(at, "error", node, text(event["error"]));
        const result = this.#node(node, "failed");
        const seconds = result.started === null ? null : rounded(at - result.started);
        Object.assign(result, figures(event), { error: text(event["error"]), seconds });
        this.#whole.delete(node);
        break;
      }
      case "node.blocked":
        this.#node(node, "blocked").reason = `\`${text(event["because"])}\` failed`;
        break;
      case "node.accepted":
        this.#node(node, "skipped").reason = "its outputs were accepted as they are";
        break;
      case "run.interrupted":
        this.#say(at, "warning", null, `stopped by ${text(event["signal"])}`);
        break;
      case "endpoint.waiting":
        this.#say(at, "warning", null, `${text(event["endpoint"])}: ${text(event["error"])}; waiting for ${text(event["waiting_for"])}`);
        break;
      case "endpoint.responding":
        this.#say(at, "info", null, `${text(event["endpoint"])} responds again`);
        break;
      case "endpoint.adapted":
        this.#say(at, "info", null, `learned about ${text(event["endpoint"])}:\n${text(event["settings"])}`);
        break;
      case "endpoint.sample":
        this.#sample(at, event);
        break;
      case "warning":
        this.#say(at, "warning", null, text(event["message"]));
        break;
      case "run.finished": {
        const { v: _v, kind: _kind, run: _run, elapsed: _elapsed, ...summary } = event;
        this.#summary = summary as unknown as Summary;
        break;
      }
      default:
    }
  }

  #node(name: string, state: NodeState): NodeResult {
    let node = this.#index.get(name);
    if (node === undefined) {
      node = { name, state, reason: null, error: null, started: null, ...NOTHING };
      this.#index.set(name, node);
      this.#nodes.push(node);
    }
    node.state = state;
    return node;
  }

  #say(at: number, level: Message["level"], node: string | null, message: string): void {
    if (this.#messages.length < MESSAGES) this.#messages.push({ at: rounded(at), level, node, text: message });
    else this.#more += 1;
  }

  #sample(at: number, event: Event): void {
    const model = text(event["model"]);
    const endpoint = text(event["endpoint"]);
    this.#samples.push({
      at: rounded(at),
      endpoint: model === "" ? endpoint : `${endpoint} (${model})`,
      in_flight: number(event["in_flight"]),
      concurrency: known(event["concurrency"]),
      requests_per_minute: number(event["requests_per_minute"]),
      requests_limit: known(event["requests_limit"]),
      tokens_per_minute: number(event["tokens_per_minute"]),
      tokens_limit: known(event["tokens_limit"]),
    });
    if (this.#samples.length <= 2 * SAMPLES) return;
    const kept = new Map<string, boolean>();
    this.#samples = this.#samples.filter(({ endpoint: of }) => {
      kept.set(of, !(kept.get(of) ?? false));
      return kept.get(of);
    });
  }

  /** The document as of now. */
  page(): Page {
    const { locations, ...begun } = this.#begun;
    const over = this.over;
    const last = this.#messages[this.#messages.length - 1];
    const more: Message[] = this.#more > 0 ? [{ at: last?.at ?? 0, level: "info", node: null, text: `${this.#more} more in \`flow runs show\`` }] : [];
    const before = begun.compare;
    return {
      ...begun,
      run: { ...this.#run, seconds: over ? this.#run.seconds : this.#last, summary: this.#summary },
      nodes: this.#nodes.map((node) => (over && node.state === "running" ? { ...node, state: "stopped" } : { ...node })),
      partitions: Object.fromEntries([...this.#cells].map(([node, cells]) => [node, packed(cells, locations[node] ?? null)])),
      samples: [...this.#samples],
      messages: [...this.#messages, ...more],
      compare: before === null ? null : { ...before, nodes: Object.fromEntries(Object.entries(before.nodes).filter(([name]) => this.#whole.has(name))) },
    };
  }
}

/** A node that sends no requests has no figures of them. */
function figures(event: Event): Figures {
  const sends = number(event["requests"]) > 0;
  const spent = (value: unknown) => (sends && number(value) > 0 ? number(value) : null);
  return { ...NOTHING, rows_in: known(event["rows_in"]), bytes: known(event["bytes"]), requests: spent(event["requests"]), tokens: spent(event["tokens"]), cost_usd: spent(event["cost_usd"]) };
}

function end(cells: Cells, key: string, state: string, at: number | null, seconds: number | null, rows: number | null): number {
  let i = cells.index.get(key);
  if (i === undefined) {
    i = cells.keys.length;
    cells.index.set(key, i);
    cells.keys.push(key);
  }
  cells.states[i] = state;
  cells.ended[i] = at;
  cells.seconds[i] = seconds;
  cells.rows[i] = rows;
  return i;
}

function packed(cells: Cells, location: string | null): Partitions {
  const prefix = commonPrefix(cells.keys);
  return {
    prefix,
    keys: cells.keys.map((key) => key.slice(prefix.length)),
    states: cells.states.join(""),
    ended: [...cells.ended],
    seconds: [...cells.seconds],
    rows: [...cells.rows],
    unnamed_skipped: cells.skipped,
    unnamed_missing: Math.max(0, cells.total - cells.skipped - cells.keys.length),
    location,
    failures: Object.fromEntries(cells.failures),
  };
}

/** The longest start that all keys share, up to a `=` or a `/`. */
function commonPrefix(keys: string[]): string {
  const first = keys[0] ?? "";
  let shared = first.length;
  for (const key of keys) {
    let same = 0;
    while (same < shared && first[same] === key[same]) same += 1;
    shared = same;
  }
  const start = first.slice(0, shared);
  return start.slice(0, Math.max(start.lastIndexOf("="), start.lastIndexOf("/")) + 1);
}
