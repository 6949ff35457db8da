// What is chosen on the page, shared by its sections.

type Listener = (id: string | null) => void;

/** The id of the chosen box of the graph: a node or a dataset. */
export class Selection {
  #id: string | null = null;
  #listeners: Listener[] = [];

  get id(): string | null {
    return this.#id;
  }

  choose(id: string | null): void {
    this.#id = id;
    for (const listener of this.#listeners) listener(id);
  }

  onChange(listener: Listener): void {
    this.#listeners.push(listener);
  }
}
