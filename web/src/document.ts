// The document that the page shows. Its schema is `schemas/page.schema.json`; the program writes it.

/** A state of a node or of a run. */
export type NodeState = "done" | "skipped" | "failed" | "blocked" | "running" | "stopped" | "waiting";

export interface Page {
  v: 1;
  title: string;
  graph: Graph;
  run: Run | null;
  nodes: NodeResult[];
  partitions: Record<string, Partitions>;
  samples: Sample[];
  messages: Message[];
  compare: Comparison | null;
}

export interface Graph {
  nodes: GraphNode[];
  datasets: Dataset[];
  edges: Edge[];
}

export interface GraphNode {
  id: string;
  name: string;
  function: string;
  pipelines: string[];
  tags: string[];
  inputs: Port[];
  outputs: Port[];
}

export interface Port {
  port: string;
  name: string;
  shape: string;
}

export interface Dataset {
  id: string;
  name: string;
  type: string;
  location: string | null;
  layer: string | null;
  free: boolean;
  persistent: boolean;
}

export interface Edge {
  from: string;
  to: string;
  kind: string;
}

export type RunStatus = "ok" | "failed" | "interrupted" | "running" | "killed";

export interface Run {
  id: string;
  status: RunStatus;
  started: string | null;
  seconds: number | null;
  pipeline: string | null;
  env: string | null;
  summary: Summary | null;
  /** All processes of a submission, where the page is about several. */
  processes: Process[] | null;
}

/** A process of a submission: an attempt of one of its shards, or a run without a shard. */
export interface Process {
  run: string;
  shard: string | null;
  status: RunStatus;
  started: string | null;
  seconds: number | null;
}

export interface Summary {
  nodes: Record<string, number>;
  partitions: Record<string, number>;
  rows: Record<string, number>;
  requests: number;
  retries: number;
  throttled: number;
  tokens: number;
  cost_usd: number;
  saved_usd: number;
  causes: Cause[];
}

export interface Cause {
  node: string;
  error: string;
  partitions: number;
  examples: string[];
}

/** What a node did; `null` for what is not known. */
export interface Figures {
  rows_in: number | null;
  rows_out: number | null;
  bytes: number | null;
  seconds: number | null;
  requests: number | null;
  tokens: number | null;
  cost_usd: number | null;
}

export interface NodeResult extends Figures {
  name: string;
  state: NodeState;
  reason: string | null;
  error: string | null;
  started: number | null;
}

/** The partitions of a node, one array for each property. Key `i` is `prefix + keys[i]`. */
export interface Partitions {
  prefix: string;
  keys: string[];
  /** One letter for each partition: `d`one, up to date (`s`), `f`ailed, `m`issing. */
  states: string;
  /** Seconds from the start of the run to the partition's end; `null` where it did not end. */
  ended: (number | null)[];
  seconds: (number | null)[];
  rows: (number | null)[];
  /** Partitions whose keys are not known: up to date, and not reached. */
  unnamed_skipped: number;
  unnamed_missing: number;
  /** The folder of the files; `null` when it is not known. */
  location: string | null;
  failures: Record<string, Failure>;
}

export interface Failure {
  error: string;
  attempts: number;
}

/** The work at an endpoint at a time; a limit is `null` where there is none. */
export interface Sample {
  at: number;
  endpoint: string;
  in_flight: number;
  concurrency: number | null;
  requests_per_minute: number;
  requests_limit: number | null;
  tokens_per_minute: number;
  tokens_limit: number | null;
}

export interface Message {
  at: number;
  level: "info" | "warning" | "error";
  node: string | null;
  text: string;
}

export interface Comparison {
  run: string;
  started: string | null;
  status: string;
  nodes: Record<string, Figures>;
}

/** Reads the document out of the page. */
export function readDocument(): Page {
  return JSON.parse(document.getElementById("data")?.textContent ?? "null") as Page;
}
