// The routing weights over an answer: one thin column a token, experts stacked in the head's order.
import { h } from "./dom.js";
import { experts, inks } from "./experts.js";
import { percent } from "./numbers.js";

const height = 44;
const widest = 9;
const footing = 5;

/** For each of `columns` columns the token range it stands for; there are never more columns than tokens. */
export function columnRanges(tokens, columns) {
  const n = Math.min(tokens, columns);
  return Array.from({ length: n }, (_, i) => [Math.floor((i * tokens) / n), Math.floor(((i + 1) * tokens) / n)]);
}

export class Strip {
  #canvas = h("canvas", {
    class: "strip", tabindex: "0", role: "slider", "aria-label": "Routing weights, token by token",
  });
  #tokens;
  #current = null;
  #width = 0;

  /** `visit(index, how)` is called with how = hover, leave, or go. */
  constructor(tokens, visit) {
    this.#tokens = tokens;
    this.root = h("div", { class: "strip-box", hidden: true }, this.#canvas);
    this.#canvas.addEventListener("pointermove", (event) => visit(this.#at(event.offsetX), "hover"));
    this.#canvas.addEventListener("pointerleave", () => visit(null, "leave"));
    this.#canvas.addEventListener("click", (event) => visit(this.#at(event.offsetX), "go"));
    this.#canvas.addEventListener("keydown", (event) => this.#key(event, visit));
    this.#canvas.addEventListener("blur", () => visit(null, "leave"));
    new ResizeObserver(() => this.draw()).observe(this.root);
    this.#canvas.addEventListener("themechange", () => this.draw());
  }

  /** The place of a token on the screen. */
  rectangle(index) {
    const box = this.#canvas.getBoundingClientRect();
    const step = this.#width / this.#tokens.length;
    const left = box.left + index * step;
    return { left, right: left + step, top: box.top, bottom: box.bottom, width: step, height: box.height };
  }

  mark(index) {
    this.#current = index;
    this.draw();
  }

  #at(x) {
    return Math.max(0, Math.min(this.#tokens.length - 1, Math.floor((x / this.#width) * this.#tokens.length)));
  }

  #key(event, visit) {
    const last = this.#tokens.length - 1;
    const now = this.#current ?? 0;
    const page = Math.max(1, Math.round(last / 10));
    const places = {
      ArrowRight: now + 1, ArrowUp: now + 1, ArrowLeft: now - 1, ArrowDown: now - 1,
      PageUp: now + page, PageDown: now - page, Home: 0, End: last,
    };
    if (event.key === "Enter" || event.key === " ") visit(now, "go");
    else if (event.key in places) visit(Math.max(0, Math.min(last, places[event.key])), "hover");
    else return;
    event.preventDefault();
  }

  draw() {
    const tokens = this.#tokens;
    const routed = tokens.some((token) => token.shares.length > 0);
    this.root.hidden = !routed;
    if (!routed) return;
    const room = this.root.clientWidth;
    if (room === 0) return;
    const scale = devicePixelRatio || 1;
    this.#width = Math.min(room, tokens.length * widest);
    this.#canvas.style.width = `${this.#width}px`;
    this.#canvas.style.height = `${height}px`;
    this.#canvas.width = Math.round(this.#width * scale);
    this.#canvas.height = Math.round(height * scale);
    this.#describe();
    this.#paint(this.#canvas.getContext("2d"), this.#canvas.width, this.#canvas.height, scale);
  }

  #paint(pen, width, tall, scale) {
    const ink = inks();
    const foot = Math.round(footing * scale);
    const body = tall - foot - Math.round(scale);
    const ranges = columnRanges(this.#tokens.length, Math.floor(width / Math.max(1, Math.round(scale))));
    const gap = width / ranges.length >= 4 * scale ? Math.round(scale) : 0;
    for (const [i, [from, to]] of ranges.entries()) {
      const left = Math.round((i * width) / ranges.length);
      const wide = Math.max(1, Math.round(((i + 1) * width) / ranges.length) - left - gap);
      const shares = this.#meanShares(from, to);
      pen.globalAlpha = 0.75;
      let top = 0;
      let sum = 0;
      for (const [row, share] of shares.entries()) {
        sum += share;
        const bottom = Math.round(sum * body);
        pen.fillStyle = ink.of(experts.slot(experts.nameAt(row)));
        pen.fillRect(left, top, wide, bottom - top);
        top = bottom;
      }
      // Who decided, below the weights: the two differ where an expert was lost, and in modes that do not route.
      pen.globalAlpha = 1;
      pen.fillStyle = ink.of(experts.slot(this.#tokens[from].expert));
      pen.fillRect(left, tall - foot, wide, foot);
    }
    if (this.#current !== null && this.#current < this.#tokens.length) {
      const middle = Math.round(((this.#current + 0.5) * width) / this.#tokens.length);
      pen.fillStyle = ink.ink;
      pen.fillRect(middle - Math.round(scale), 0, Math.round(2 * scale), tall);
    }
  }

  #meanShares(from, to) {
    if (to - from === 1) return this.#tokens[from].shares;
    const mean = [];
    for (const token of this.#tokens.slice(from, to)) {
      for (const [row, share] of token.shares.entries()) mean[row] = (mean[row] ?? 0) + share;
    }
    const sum = mean.reduce((a, b) => a + b, 0) || 1;
    return mean.map((share) => share / sum);
  }

  #describe() {
    const now = this.#current ?? this.#tokens.length - 1;
    const token = this.#tokens[now];
    const shares = token.shares.map((share, row) => `${experts.nameAt(row)} ${percent(share)}`).join(", ");
    const values = { min: 1, max: this.#tokens.length, now: now + 1, text: `token ${now + 1}: ${shares}` };
    for (const [name, value] of Object.entries(values)) this.#canvas.setAttribute(`aria-value${name}`, value);
  }
}
