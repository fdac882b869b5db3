// Which colour and which mark an expert has. Marks are kinds of underline, for those who cannot tell the colours apart.
import { h } from "./dom.js";

const colours = 8;

/** The names of the experts in the order of the routing head, as far as they are known. */
export class Experts {
  names = [];
  #slots = new Map();
  #listeners = new Set();

  /** Takes the names in the head's order; experts seen before keep their places. */
  learn(names) {
    this.names = names;
    const before = this.#slots.size;
    for (const name of names) this.slot(name);
    if (this.#slots.size !== before) for (const listener of this.#listeners) listener();
  }

  onChange(listener) {
    this.#listeners.add(listener);
  }

  /** A number that the expert keeps; null for no expert. */
  slot(name) {
    if (name === null) return null;
    if (!this.#slots.has(name)) this.#slots.set(name, this.#slots.size);
    return this.#slots.get(name);
  }

  /** Classes of the colour and the mark. 64 experts differ in one of them at least. */
  style(name) {
    const slot = this.slot(name);
    if (slot === null) return "none";
    return `c${slot % colours} m${(slot + Math.floor(slot / colours)) % colours}`;
  }

  /** The name behind a routing weight. */
  nameAt(row) {
    return this.names[row] ?? `expert ${row + 1}`;
  }
}

export const experts = new Experts();

/** What a person calls an expert, or its absence. */
export const label = (name) => name ?? "router";

/** The expert's name, painted as its tokens are. */
export const tag = (name) => h("span", { class: `tag ${experts.style(name)}`, text: label(name) });

let cachedInks = null;
document.addEventListener("themechange", () => (cachedInks = null));

/** The theme's colours as they are now, for canvases; `of(slot)` is an expert's strong colour. */
export function inks() {
  if (cachedInks) return cachedInks;
  const probe = h("i", { hidden: true });
  document.body.append(probe);
  const read = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const strong = Array.from({ length: colours }, (_, i) => read(`--l${i}`));
  const [none, ink] = [read("--none-line"), read("--ink")];
  probe.remove();
  cachedInks = { of: (slot) => (slot === null ? none : strong[slot % colours]), ink };
  return cachedInks;
}
