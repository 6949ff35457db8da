// Which part of a large graph is drawn.
import type { Edge } from "./document.ts";

/** Graphs with more boxes open on a neighbourhood. */
export const LARGE = 200;
/** The most boxes of a neighbourhood. */
const MOST = 60;

/** The boxes around one box, nearest first, until there are enough. */
export function around(id: string, edges: Edge[]): Set<string> {
  const neighbours = new Map<string, string[]>();
  const add = (from: string, to: string) => {
    const list = neighbours.get(from);
    if (list === undefined) neighbours.set(from, [to]);
    else list.push(to);
  };
  for (const { from, to } of edges) {
    add(from, to);
    add(to, from);
  }
  const found = new Set([id]);
  for (const next of found) {
    for (const neighbour of neighbours.get(next) ?? []) {
      if (found.size >= MOST) return found;
      found.add(neighbour);
    }
  }
  return found;
}
