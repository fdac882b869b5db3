// The conversation.
import { announce, button, calm, copy, h, iconButton, toast } from "./dom.js";
import { Comparison } from "./compare.js";
import { Exchange } from "./exchange.js";
import { plural } from "./numbers.js";
import { chatBody, randomSeed } from "./request.js";
import { settings } from "./settings.js";

/** Browsers open six connections to one server; the state of the cluster needs one too. */
const mostAtOnce = 4;

/** A prompt and what answers it: one exchange, or several side by side. */
class Turn {
  comparison = null;

  constructor(prompt, exchanges) {
    this.prompt = prompt;
    this.exchanges = exchanges;
  }

  get reply() {
    return (this.comparison?.chosen ?? this.exchanges[0]).answer.text;
  }
}

export class Chat {
  #turns = [];
  #log = document.getElementById("log");
  #scroller = document.getElementById("scroller");
  #stopper = null;
  #follow = true;
  #listeners = new Set();
  /** The modes that a comparison asks. */
  modes = [settings.model];
  /** One after the other, so that no mode takes time from another. */
  compareInTurn = true;

  constructor() {
    const jump = document.getElementById("jump");
    const isAtEnd = () => this.#scroller.scrollHeight - this.#scroller.scrollTop - this.#scroller.clientHeight < 60;
    this.#scroller.addEventListener("scroll", () => (jump.hidden = this.#follow = isAtEnd()), { passive: true });
    new ResizeObserver(() => (jump.hidden = isAtEnd())).observe(this.#log);
    jump.addEventListener("click", () => this.#toEnd(true));
  }

  get isBusy() {
    return this.#stopper !== null;
  }

  get isEmpty() {
    return this.#turns.length === 0;
  }

  onChange(listener) {
    this.#listeners.add(listener);
  }

  #changed() {
    for (const listener of this.#listeners) listener();
  }

  /** Asks the current mode or, `compare`, every mode. */
  async send(prompt, { compare = false } = {}) {
    if (this.isBusy || prompt.trim() === "") return;
    const models = compare ? this.modes : [settings.model];
    const exchanges = models.map((model) => this.#exchange(model, compare));
    const turn = new Turn(prompt, exchanges);
    for (const exchange of exchanges) exchange.turn = turn;
    if (compare) turn.comparison = new Comparison(exchanges);
    turn.root = h("div", { class: "turn" },
      this.#question(turn), turn.comparison?.root ?? exchanges[0].root);
    this.#turns.push(turn);
    this.#log.append(turn.root);
    this.#follow = !compare;
    if (compare) turn.root.scrollIntoView({ block: "start" });
    await this.#run(turn, exchanges, settings.seed ?? randomSeed());
  }

  stop() {
    this.#stopper?.abort();
  }

  /** Empties the page; the person can have it back for some seconds. */
  clear() {
    if (this.isEmpty) return;
    this.#cut(0, "New chat");
  }

  #exchange(model, compared) {
    const again = (exchange) => this.#again(exchange);
    const actions = () => [iconButton("again", "Answer again", () => again(exchange))];
    const exchange = new Exchange({ model, again, actions });
    exchange.onGrow = () => {
      exchange.turn.comparison?.update();
      if (this.#follow && !compared) this.#toEnd();
    };
    return exchange;
  }

  #question(turn) {
    const text = h("div", { class: "prompt", text: turn.prompt });
    return h(
      "div", { class: "question" },
      h("h2", { class: "visually-hidden", text: "You asked" }), text,
      h("div", { class: "actions" },
        iconButton("copy", "Copy the prompt", () => copy(turn.prompt, "Prompt")),
        iconButton("edit", "Edit and ask again", () => this.#edit(turn))),
    );
  }

  #edit(turn) {
    const area = h("textarea", { class: "edit", "aria-label": "Edit the prompt", rows: "3" });
    area.value = turn.prompt;
    const close = () => {
      const question = this.#question(turn);
      form.replaceWith(question);
      question.querySelectorAll("button")[1].focus();
    };
    const submit = async () => {
      if (this.isBusy || area.value.trim() === "") return;
      const compare = turn.comparison !== null;
      this.#cut(this.#turns.indexOf(turn), "Edited");
      close();
      await this.send(area.value, { compare });
    };
    const form = h(
      "form", { class: "question editing", on: { submit: (event) => (event.preventDefault(), submit()) } },
      area,
      h("div", { class: "row" },
        button("Cancel", close),
        h("button", { type: "submit", class: "primary", text: "Ask" })),
    );
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") (event.stopPropagation(), close());
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) (event.preventDefault(), submit());
    });
    turn.root.querySelector(".question").replaceWith(form);
    area.focus();
  }

  /** Answers once more; what came after is taken away. */
  async #again(exchange) {
    if (this.isBusy) return;
    const index = this.#turns.indexOf(exchange.turn);
    if (index + 1 < this.#turns.length) this.#cut(index + 1, "Answering again");
    // Without a seed of one's own each try is another; in a comparison all modes keep the same.
    const seed = exchange.turn.comparison ? exchange.measured.seed : (settings.seed ?? randomSeed());
    await this.#run(exchange.turn, [exchange], seed);
  }

  #cut(from, what) {
    this.stop();
    const before = [...this.#turns];
    this.#turns = before.slice(0, from);
    this.#show();
    const lost = before.length - from;
    toast(`${what}: ${plural(lost, "question")} removed`, {
      label: "Undo",
      run: () => {
        this.stop();
        this.#turns = before;
        this.#show();
      },
    });
  }

  #show() {
    this.#log.replaceChildren(...this.#turns.map((turn) => turn.root));
    this.#changed();
  }

  async #run(turn, exchanges, seed) {
    const stopper = new AbortController();
    this.#stopper = stopper;
    this.#changed();
    if (exchanges.length === 1) this.#toEnd();
    announce("Answering");
    const index = this.#turns.indexOf(turn);
    const history = this.#turns.slice(0, index).map(({ prompt, reply }) => ({ prompt, reply }));
    const turns = [...history, { prompt: turn.prompt }];
    const ask = async (exchange) => {
      await exchange.run(chatBody({ settings, model: exchange.model, turns, seed }), stopper.signal);
      turn.comparison?.update();
    };
    const waiting = [...exchanges];
    const askInTurn = async () => {
      while (waiting.length > 0) await ask(waiting.shift());
    };
    await Promise.all(Array.from({ length: this.compareInTurn ? 1 : mostAtOnce }, askInTurn));
    if (this.#stopper === stopper) this.#stopper = null;
    this.#changed();
    if (exchanges.length > 1) announce("All modes have answered.");
    else announce(exchanges[0].state === "done" ? exchanges[0].view.sentence : "The answer ended early.");
    if (this.#follow && exchanges.length === 1) this.#toEnd();
  }

  #toEnd(smoothly = false) {
    const behavior = smoothly && !calm() ? "smooth" : "auto";
    this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior });
  }
}
