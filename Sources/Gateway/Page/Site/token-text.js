// An answer's text, token by token: colours, marks, hover, keyboard.
import { BlockCutter } from "./blocks.js";
import { card, describe } from "./card.js";
import { announce, calm, h } from "./dom.js";
import { experts } from "./experts.js";

export class TokenText {
  #answer;
  #elements = [];
  #cutter = new BlockCutter();
  #block;
  #shown = 0;
  #current = 0;
  #only = new Set();
  /** Where the way up or down began, in pixels; null when the last move was another. */
  #column = null;

  /** Called with the index of the token that hover or focus is on; null: none. */
  onVisit = () => {};

  constructor(answer) {
    this.#answer = answer;
    this.root = h("div", {
      class: "text", role: "group", "aria-label": "Answer, token by token: arrow keys move, Enter keeps the card open",
      on: {
        pointerover: (event) => this.#hover(event),
        pointerleave: () => this.#leave(),
        click: (event) => this.#click(event),
        focusin: (event) => this.#focus(event),
        focusout: () => this.#leave(),
        keydown: (event) => this.#key(event),
      },
    });
    this.#begin("prose");
  }

  /** Adds the tokens that came since the last call; all at once, so that the browser lays out once. */
  grow() {
    for (const tokens = this.#answer.tokens; this.#shown < tokens.length; this.#shown += 1) {
      this.#add(tokens[this.#shown], this.#shown);
    }
  }

  #begin(kind) {
    this.#block = h("div", { class: kind });
    this.root.append(this.#block);
  }

  #add(token, index) {
    const steps = this.#cutter.push(token.text);
    if (steps.length === 0) this.#append(token, index, "", "empty");
    for (const step of steps) {
      if (step.kind === "piece") {
        this.#append(token, index, step.text, step.fence ? "fence" : "");
      } else if (step.kind === "code") {
        const moved = step.move > 0 ? [...this.#block.childNodes].slice(-step.move) : [];
        this.#begin("code");
        this.#block.append(...moved);
      } else {
        this.#begin("prose");
      }
    }
  }

  #append(token, index, text, kind) {
    const element = document.createElement("span");
    if (token.id === null) {
      element.textContent = text;
      this.#block.append(element);
      this.#elements[index] ??= null;
      return;
    }
    const classes = [
      "t", experts.style(token.expert), kind, text.endsWith("\n") && "nl", token.degraded && "degraded",
      this.#only.has(token.expert) && "on",
    ];
    element.className = classes.filter(Boolean).join(" ");
    element.textContent = text;
    element.dataset.i = index;
    element.tabIndex = this.#elements.length === 0 ? 0 : -1;
    this.#block.append(element);
    // A token that spans lines has several elements; the first stands for it.
    this.#elements[index] ??= element;
  }

  /** Dims the tokens of all experts but `only`; an empty set dims none. */
  highlight(only) {
    this.#only = only;
    this.root.classList.toggle("filtered", only.size > 0);
    for (const element of this.root.querySelectorAll(".t")) {
      element.classList.toggle("on", only.has(this.#answer.tokens[element.dataset.i].expert));
    }
  }

  /** Scrolls to a token and puts the focus on it. */
  go(index) {
    const element = this.#elements[index];
    if (!element) return;
    element.scrollIntoView({ block: "center", behavior: calm() ? "auto" : "smooth" });
    element.focus({ preventScroll: true });
  }

  outline(index) {
    this.root.querySelector(".t.seen")?.classList.remove("seen");
    if (index !== null) this.#elements[index]?.classList.add("seen");
  }

  #hover(event) {
    if (event.pointerType === "touch") return;
    const element = event.target.closest(".t");
    if (!element) return this.#leave();
    this.#show(element);
  }

  #show(element, options) {
    const index = Number(element.dataset.i);
    card.show(this.#answer.tokens[index], index, element, options);
    this.onVisit(index);
  }

  #leave() {
    if (card.isPinned) return;
    card.hide();
    this.onVisit(null);
  }

  #click(event) {
    const element = event.target.closest(".t");
    // Who selects text wants the text.
    if (!element || !getSelection().isCollapsed) return;
    this.#move(Number(element.dataset.i), { focus: false });
    this.#show(element, { pin: true });
  }

  #focus(event) {
    const element = event.target.closest(".t");
    if (!element || card.isPinned || !element.matches(":focus-visible")) return;
    const index = Number(element.dataset.i);
    this.#move(index, { focus: false });
    this.#show(element);
    announce(describe(this.#answer.tokens[index], index, this.#answer.tokens.length));
  }

  /** One token of the answer can be reached with Tab: the current one. */
  #move(index, { focus = true } = {}) {
    const element = this.#elements[index];
    if (!element) return;
    const before = this.#elements[this.#current];
    if (before) before.tabIndex = -1;
    this.#current = index;
    element.tabIndex = 0;
    if (!focus) return;
    card.hide();
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "nearest" });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const element = event.target.closest(".t");
    if (!element) return;
    const index = Number(element.dataset.i);
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") this.#column = null;
    if (event.key === "Enter" || event.key === " ") {
      if (card.isPinned) card.hide();
      else this.#show(element, { pin: true });
    } else if (event.key === "ArrowRight") this.#step(index, 1, event.shiftKey);
    else if (event.key === "ArrowLeft") this.#step(index, -1, event.shiftKey);
    else if (event.key === "ArrowDown") this.#move(this.#neighbour(element, 1));
    else if (event.key === "ArrowUp") this.#move(this.#neighbour(element, -1));
    else if (event.key === "Home") this.#step(-1, 1);
    else if (event.key === "End") this.#step(this.#elements.length, -1);
    else return;
    event.preventDefault();
  }

  /** To the next token or, `far`, to the next that another expert decided. */
  #step(from, direction, far = false) {
    const tokens = this.#answer.tokens;
    const expert = tokens[from]?.expert;
    for (let i = from + direction; i >= 0 && i < this.#elements.length; i += direction) {
      if (!this.#elements[i] || (far && tokens[i].expert === expert)) continue;
      this.#move(i);
      return;
    }
  }

  /** The token above or below: on the nearest other line, the nearest. */
  #neighbour(element, direction) {
    const start = element.getClientRects()[0];
    this.#column ??= start.left + start.width / 2;
    let line = null;
    let best = { distance: Infinity, index: Number(element.dataset.i) };
    for (let i = best.index + direction; i >= 0 && i < this.#elements.length; i += direction) {
      const box = this.#elements[i]?.getClientRects()[0];
      if (!box || Math.abs(box.top - start.top) < start.height / 2) continue;
      line ??= box.top;
      if (Math.abs(box.top - line) > box.height / 2) break;
      const distance = Math.abs(box.left + box.width / 2 - this.#column);
      if (distance < best.distance) best = { distance, index: i };
    }
    return best.index;
  }
}
