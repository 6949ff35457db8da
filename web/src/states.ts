// How states are named and marked: never by colour alone.
import type { NodeState } from "./document.ts";

interface Mark {
  label: string;
  sign: string;
  colour: string;
}

const NODE: Record<NodeState, Mark> = {
  done: { label: "done", sign: "✓", colour: "done" },
  skipped: { label: "up to date", sign: "=", colour: "skipped" },
  failed: { label: "failed", sign: "✗", colour: "failed" },
  blocked: { label: "blocked", sign: "⊘", colour: "blocked" },
  running: { label: "running", sign: "▶", colour: "running" },
  stopped: { label: "stopped", sign: "■", colour: "blocked" },
  waiting: { label: "not started", sign: "…", colour: "missing" },
};

const PARTITION: Record<string, Mark> = {
  d: { label: "done", sign: "✓", colour: "done" },
  s: { label: "up to date", sign: "=", colour: "skipped" },
  f: { label: "failed", sign: "✗", colour: "failed" },
  m: { label: "missing", sign: "…", colour: "missing" },
};

export const nodeMark = (state: NodeState): Mark => NODE[state];
export const partitionMark = (state: string): Mark => PARTITION[state] ?? { label: "missing", sign: "…", colour: "missing" };

/** How a run ended. */
export const STATUS = { ok: "✓ ok", failed: "✗ failed", interrupted: "■ interrupted", running: "▶ running", killed: "■ ended without a last event" };
