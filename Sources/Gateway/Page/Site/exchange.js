// One question to one mode, and its answer.
import { APIError, stream } from "./api.js";
import { AnswerView } from "./answer-view.js";
import { button, h } from "./dom.js";
import { modeTitle } from "./request.js";

function describe(error) {
  if (!(error instanceof APIError)) return { message: `The page could not go on: ${error.message}`, detail: null };
  const parts = [
    error.status >= 400 && `HTTP ${error.status}`,
    error.code ?? error.type,
    error.retryAfter !== null && `try again after ${error.retryAfter} s`,
    error.requestID && `request ${error.requestID}`,
  ].filter(Boolean);
  return { message: error.message, detail: parts.join(" · ") || null };
}

export class Exchange {
  root = h("div", { class: "exchange" });
  /** Milliseconds from the request to the first token and to the end, as measured here; null until then. */
  measured = { first: null, total: null, seed: null };
  state = "waiting";
  /** Called after tokens were drawn. */
  onGrow = () => {};
  #view;
  #actions;
  #again;

  /** `actions()` makes the buttons behind an answer; `again()` is what "Try again" does. */
  constructor({ model, actions = () => [], again }) {
    this.model = model;
    this.#actions = actions;
    this.#again = again;
    this.#renew();
  }

  get answer() {
    return this.#view.answer;
  }

  get view() {
    return this.#view;
  }

  #renew() {
    this.#view = new AnswerView({ title: modeTitle(this.model), actions: this.#actions() });
    this.#view.onGrow = () => this.onGrow();
    this.root.replaceChildren(this.#view.root);
  }

  /** Asks and shows the answer as it comes. Never throws: what went wrong is said in the answer's place. */
  async run(body, signal) {
    this.#renew();
    const view = this.#view;
    view.begin();
    const start = performance.now();
    this.measured = { first: null, total: null, seed: body.seed };
    this.state = "running";
    let note = null;
    try {
      signal.throwIfAborted();
      await stream(body, {
        signal,
        take: (chunk) => {
          view.take(chunk);
          if (view.answer.tokens.length > 0) this.measured.first ??= performance.now() - start;
        },
      });
      this.state = "done";
    } catch (error) {
      this.state = error.name === "AbortError" ? "stopped" : "failed";
      if (this.state === "stopped") note = { kind: "stopped", message: "Stopped." };
      else note = { kind: "error", ...describe(error), action: button("Try again", () => this.#again(this)) };
    }
    this.measured.total = performance.now() - start;
    view.end({ note, measured: this.measured });
  }
}
