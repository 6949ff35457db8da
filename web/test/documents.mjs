// Documents as the program writes them, of any size.

const FIGURES = { rows_in: null, rows_out: null, bytes: null, seconds: null, requests: null, tokens: null, cost_usd: null };

/** A chain of `size` nodes with a dataset after each. */
export function chain(size, name = (i) => `node_${i}`) {
  const nodes = [];
  const datasets = [{ id: "data:in", name: "in", type: "csv", location: "data/in.csv", layer: null, free: true, persistent: true }];
  const edges = [];
  for (let i = 0; i < size; i += 1) {
    const id = `node:${name(i)}`;
    const from = i === 0 ? "data:in" : `data:out_${i - 1}`;
    nodes.push({ id, name: name(i), function: "sql", pipelines: ["main"], tags: [], inputs: [{ port: "in", name: from, shape: "table" }], outputs: [] });
    datasets.push({ id: `data:out_${i}`, name: `out_${i}`, type: "parquet", location: `data/out_${i}`, layer: null, free: false, persistent: true });
    edges.push({ from, to: id, kind: "data" }, { from: id, to: `data:out_${i}`, kind: "data" });
  }
  return { nodes, datasets, edges };
}

/** A run of a graph whose last node has `size` partitions, of which every `failing`-th failed. */
export function run(graph, size, failing = 0) {
  const last = graph.nodes.at(-1).name;
  const states = Array.from({ length: size }, (_, i) => (failing > 0 && i % failing === 0 ? "f" : "d"));
  const failures = Object.fromEntries(states.flatMap((state, i) => (state === "f" ? [[i, { error: "503 from the server: overloaded", attempts: 1 }]] : [])));
  const failed = Object.keys(failures).length;
  const end = size / 50 + 2;
  const ended = states.map((_, i) => Math.round((i / 50 + 1) * 1000) / 1000);
  return {
    v: 1,
    title: "main",
    graph,
    run: {
      id: "20260102-030405678-00ff",
      status: failed > 0 ? "failed" : "ok",
      started: "2026-01-02T03:04:05.678Z",
      seconds: end,
      pipeline: "main",
      env: null,
      summary: {
        nodes: { done: graph.nodes.length - (failed > 0 ? 1 : 0), skipped: 0, failed: failed > 0 ? 1 : 0, blocked: 0 },
        partitions: { done: size - failed, skipped: 0, failed },
        rows: { ok: 10 * size, cached: 0, empty: 0, error: 0 },
        requests: size, retries: 3, throttled: 1, tokens: 1000, cost_usd: 0.25, saved_usd: 0,
        causes: failed > 0 ? [{ node: last, error: "503 from the server: overloaded", partitions: failed, examples: [] }] : [],
      },
    },
    nodes: graph.nodes.map((node, i) => ({
      ...FIGURES, name: node.name, state: failed > 0 && node.name === last ? "failed" : "done", reason: "no output yet",
      error: failed > 0 && node.name === last ? `${failed} partitions failed` : null, started: Math.min(i / 100, 1), rows_out: 10, seconds: 1,
    })),
    partitions: size === 0 ? {} : {
      [last]: { prefix: "bucket=", keys: states.map((_, i) => String(i)), states: states.join(""), ended, seconds: states.map(() => 0.5), rows: states.map(() => 10), unnamed_skipped: 0, unnamed_missing: 0, location: "data/out", failures },
    },
    samples: [
      { at: 1, endpoint: "http://localhost:1", in_flight: 4, concurrency: 8, requests_per_minute: 50, requests_limit: 60, tokens_per_minute: 10, tokens_limit: null },
      { at: 2, endpoint: "http://localhost:1", in_flight: 8, concurrency: 8, requests_per_minute: 60, requests_limit: 60, tokens_per_minute: 20, tokens_limit: null },
    ],
    messages: failed > 0 ? [{ at: 1.5, level: "error", node: last, text: "503 from the server: overloaded" }] : [],
    compare: { run: "20260101-000000000-0001", started: null, status: "ok", nodes: Object.fromEntries(graph.nodes.map((node) => [node.name, { ...FIGURES, rows_out: 20, seconds: 2 }])) },
  };
}
