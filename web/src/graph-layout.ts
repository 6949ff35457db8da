// Where boxes and edges of the graph are drawn: dagre's layered layout, from left to right.
import { Graph as Layered, layout } from "@dagrejs/dagre";
import type { Edge } from "./document.ts";

export interface Box {
  id: string;
  width: number;
  height: number;
}

export interface Point {
  x: number;
  y: number;
}

export interface Layout {
  width: number;
  height: number;
  boxes: Map<string, Point>;
  edges: { edge: Edge; points: Point[] }[];
}

/** More boxes are ranked by their longest path, which is faster and needs more room. */
const MANY = 300;

export function place(boxes: Box[], edges: Edge[]): Layout {
  const graph = new Layered({ multigraph: true });
  const ranker = boxes.length > MANY ? "longest-path" : "network-simplex";
  graph.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 46, marginx: 12, marginy: 12, ranker });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const box of boxes) graph.setNode(box.id, { width: box.width, height: box.height });
  edges.forEach((edge, i) => graph.setEdge(edge.from, edge.to, {}, String(i)));
  layout(graph);
  const size = graph.graph() as { width?: number; height?: number };
  const positions = new Map<string, Point>();
  for (const box of boxes) {
    const { x, y } = graph.node(box.id) as Point;
    positions.set(box.id, { x, y });
  }
  const drawn = edges.map((edge, i) => {
    const { points } = graph.edge(edge.from, edge.to, String(i)) as { points?: Point[] };
    return { edge, points: points ?? [] };
  });
  return { width: finite(size.width), height: finite(size.height), boxes: positions, edges: drawn };
}

function finite(value: number | undefined): number {
  return value !== undefined && Number.isFinite(value) ? value : 10;
}

/** A path through points, with horizontal ends. */
export function path(points: Point[]): string {
  return points
    .map((to, i) => {
      const from = points[i - 1];
      if (from === undefined) return `M${to.x.toFixed(1)} ${to.y.toFixed(1)}`;
      const middle = ((from.x + to.x) / 2).toFixed(1);
      return `C${middle} ${from.y.toFixed(1)} ${middle} ${to.y.toFixed(1)} ${to.x.toFixed(1)} ${to.y.toFixed(1)}`;
    })
    .join("");
}
