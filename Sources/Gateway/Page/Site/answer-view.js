// An answer on the page: legend, strip, text, and what there is to say about it.
import { Answer } from "./answer.js";
import { card } from "./card.js";
import { batched, copy, h, iconButton } from "./dom.js";
import { experts, label, tag } from "./experts.js";
import { count, duration, plural, rate, wholePercents } from "./numbers.js";
import { splitBar } from "./split.js";
import { Strip } from "./strip.js";
import { TokenText } from "./token-text.js";

export class AnswerView {
  answer = new Answer();
  #text;
  #strip;
  #legend = h("div", { class: "legend", role: "group", "aria-label": "Tokens by expert; press to highlight" });
  #chips = new Map();
  #only = new Set();
  #notice = h("div", { class: "notice", hidden: true });
  #facts = h("div", { class: "facts" });
  #actions = h("div", { class: "actions" });
  #batch = batched(() => this.#draw());

  /** Called after tokens were drawn. */
  onGrow = () => {};

  constructor({ title, actions = [] }) {
    this.#text = new TokenText(this.answer);
    this.#strip = new Strip(this.answer.tokens, (index, how) => this.#visitFromStrip(index, how));
    this.#text.onVisit = (index) => this.#strip.mark(index);
    this.#actions.append(
      iconButton("copy", "Copy the answer", () => copy(this.answer.text, "Answer")),
      iconButton("braces", "Copy as JSON, with every token's numbers", () =>
        copy(JSON.stringify(this.answer, null, 1), "JSON")),
      ...actions,
    );
    this.root = h(
      "article", { class: "answer", "aria-label": `Answer, ${title}` },
      h("header", {}, h("h3", { text: title }), this.#legend),
      this.#strip.root, this.#text.root, this.#notice,
      h("footer", {}, this.#facts, this.#actions),
    );
  }

  begin() {
    this.root.classList.add("busy");
    this.root.setAttribute("aria-busy", "true");
  }

  take(chunk) {
    this.answer.take(chunk);
    this.#batch.schedule();
  }

  /**
   * Ends the answer. `note`: `{kind: "stopped" | "error", message, detail, action}`, the last two optional; `measured`:
   * `{seed, first}`, the time to the first token in milliseconds.
   */
  end({ note = null, measured }) {
    this.#batch.schedule();
    this.#batch.run();
    this.root.classList.replace("busy", "ended");
    this.root.setAttribute("aria-busy", "false");
    this.#strip.draw();
    this.#describe(measured);
    if (!note) return;
    this.#notice.className = `notice ${note.kind}`;
    if (note.kind === "error") this.#notice.setAttribute("role", "alert");
    const detail = note.detail && h("p", { class: "faint", text: note.detail });
    this.#notice.replaceChildren(...[h("p", { text: note.message }), detail, note.action].filter(Boolean));
    this.#notice.hidden = false;
  }

  #draw() {
    this.#text.grow();
    this.#strip.draw();
    this.#drawLegend();
    this.onGrow();
  }

  #drawLegend() {
    const counts = [...this.answer.counts].sort((a, b) => (experts.slot(a[0]) ?? -1) - (experts.slot(b[0]) ?? -1));
    const shares = wholePercents(counts.map(([, n]) => n));
    for (const [i, [name, n]] of counts.entries()) {
      let chip = this.#chips.get(name);
      if (!chip) {
        const value = h("span", { class: "number" });
        const title = `Highlight the tokens of ${label(name)}`;
        const on = { click: () => this.#toggle(name) };
        const props = { type: "button", class: "chip", title, "aria-pressed": "false", on };
        chip = { value, button: h("button", props, tag(name), value) };
        this.#chips.set(name, chip);
      }
      chip.value.textContent = `${count(n)} · ${shares[i]} %`;
      const there = this.#legend.children[i] ?? null;
      if (there !== chip.button) this.#legend.insertBefore(chip.button, there);
    }
  }

  #toggle(name) {
    if (!this.#only.delete(name)) this.#only.add(name);
    for (const [other, { button }] of this.#chips) button.setAttribute("aria-pressed", String(this.#only.has(other)));
    this.#text.highlight(this.#only);
  }

  #visitFromStrip(index, how) {
    this.#strip.mark(index);
    this.#text.outline(index);
    if (how === "go") return this.#text.go(index);
    if (index !== null) card.show(this.answer.tokens[index], index, this.#strip.rectangle(index));
    else if (!card.isPinned) card.hide();
  }

  #describe(measured) {
    const { usage, report, finish } = this.answer;
    const tokens = usage?.completion_tokens ?? this.answer.tokens.length;
    const timing = report?.timing ?? {};
    const facts = tokens === 0 ? [] : [
      plural(tokens, "token"),
      timing.tokens_per_second > 0 && `${rate(timing.tokens_per_second)} tokens/s`,
      Number.isFinite(measured.first) && `first token after ${duration(measured.first)}`,
      timing.queued_ms >= 1 && `queued ${duration(timing.queued_ms)}`,
      finish === "length" && "cut at the token limit",
      report?.failovers > 0 && plural(report.failovers, "failover"),
      `seed ${measured.seed}`,
    ];
    const line = h("p", { class: "stats" }, ...facts.filter(Boolean).map((fact) => h("span", { text: fact })));
    this.#facts.replaceChildren(line);
    const split = timing.split_us && splitBar(timing.split_us, tokens);
    if (!split) return;
    const summary = h("summary", { text: "Where the time went, per token" });
    this.#facts.append(h("details", { class: "time" }, summary, split));
  }

  /** The answer in one sentence, for screen readers. */
  get sentence() {
    const counts = [...this.answer.counts];
    const shares = wholePercents(counts.map(([, n]) => n));
    const parts = counts.map(([name], i) => `${shares[i]} % ${label(name)}`);
    return `Answer complete: ${[plural(this.answer.tokens.length, "token"), ...parts].join(", ")}.`;
  }
}
