// The same prompt, answered by each mode.
import { h } from "./dom.js";
import { duration, rate } from "./numbers.js";
import { modeHint, modeTitle } from "./request.js";

let groups = 0;

const states = { waiting: "waiting", running: "answering…", stopped: "stopped", failed: "failed" };

/** How an answer's tokens relate to those of fusion. */
function relation(exchange, fusion) {
  if (exchange === fusion || exchange.state !== "done" || fusion.state !== "done") return "";
  const first = exchange.answer.firstDifference(fusion.answer);
  return first === null ? "the same tokens" : `differs from token ${first + 1} on`;
}

export class Comparison {
  #exchanges;
  #table = h("tbody");
  #group = `compare-${(groups += 1)}`;
  #chosen = 0;

  constructor(exchanges) {
    this.#exchanges = exchanges;
    const columns = ["Mode", "Tokens", "First token", "Tokens/s", "Total", "Against fusion"];
    const head = h("thead", {}, h("tr", {}, ...columns.map((text) => h("th", { scope: "col", text }))));
    this.root = h(
      "section", { class: "compare", "aria-label": "The same prompt by each mode" },
      h(
        "div", { class: "compare-table", tabindex: "0", role: "group", "aria-label": "Timings by mode" },
        h("table", {}, head, this.#table),
      ),
      h("div", { class: "columns" }, ...exchanges.map((exchange, i) => this.#column(exchange, i))),
    );
    this.update();
  }

  /** The answer that the conversation goes on with. */
  get chosen() {
    return this.#exchanges[this.#chosen];
  }

  #column(exchange, i) {
    const input = h("input", { type: "radio", name: this.#group, on: { change: () => (this.#chosen = i) } });
    input.checked = i === this.#chosen;
    return h(
      "div", { class: "column" },
      h("p", { class: "hint", text: modeHint(exchange.model) }),
      exchange.root,
      h("label", { class: "continue" }, input, "Go on with this answer"),
    );
  }

  update() {
    const fastest = Math.max(...this.#exchanges.map((exchange) => this.#speed(exchange) ?? 0));
    this.#table.replaceChildren(
      ...this.#exchanges.map((exchange) => {
        const speed = this.#speed(exchange);
        const meter = h("span", { class: "meter", "aria-hidden": "true" });
        meter.style.width = `calc((100% - 4.2rem) * ${speed && fastest > 0 ? speed / fastest : 0})`;
        const { first, total } = exchange.measured;
        const state = states[exchange.state];
        return h(
          "tr", {},
          h("th", { scope: "row", text: modeTitle(exchange.model) }),
          h("td", { text: exchange.answer.tokens.length || "–" }),
          h("td", { text: duration(first) }),
          h("td", { class: "meter-cell" }, meter, h("span", { text: rate(speed) })),
          h("td", { text: duration(total) }),
          h("td", { text: state ?? relation(exchange, this.#exchanges[0]) }),
        );
      }),
    );
  }

  #speed(exchange) {
    return exchange.answer.report?.timing?.tokens_per_second ?? null;
  }
}
