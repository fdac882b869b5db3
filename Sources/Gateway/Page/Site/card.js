// The card that tells how one token came about.
import { calm, h } from "./dom.js";
import { experts, label, tag } from "./experts.js";
import { percent, probability, score } from "./numbers.js";

/** A token's text with its invisible characters shown. */
export function visible(text) {
  if (text === "") return "(no text yet)";
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣");
}

/** The card in one sentence, for screen readers. */
export function describe(token, index, total) {
  const said = token.text.trim() === "" ? visible(token.text) : token.text.trim();
  const parts = [`${said}: token ${index + 1} of ${total}, by ${token.expert ?? "the router alone"}`];
  if (token.logprob !== null) parts.push(`probability ${probability(token.logprob)}`);
  if (token.logit !== null) parts.push(`logit ${score(token.logit, 2)}`);
  if (token.degraded) parts.push("a substitute decided");
  return parts.join(", ");
}

const row = (name, value, hint) => [h("dt", { text: name, title: hint }), h("dd", { text: value })];

function scores(token) {
  return h(
    "dl", { class: "scores" },
    ...row("Probability", probability(token.logprob), "softmax over the fused logits, before temperature and filters"),
    ...row("Log-probability", score(token.logprob)),
    ...row("Fused logit", score(token.logit), "the score that decided, before temperature and filters"),
    ...row("Router logit", score(token.routerLogit)),
    ...row("Expert logit", score(token.expertLogit)),
  );
}

/** A bar `share` of 1 long. */
export function bar(share, className = "") {
  const fill = h("span", { class: `fill ${className}` });
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, fill);
}

function weights(token) {
  if (token.weights.length === 0) return null;
  const rows = token.weights.map((weight, i) => {
    const name = experts.nameAt(i);
    return h(
      "tr", { class: name === token.expert ? "chosen" : null },
      h("th", { scope: "row" }, tag(name)),
      h("td", { class: "wide" }, bar(token.shares[i], experts.style(name))),
      h("td", { text: percent(token.shares[i]) }),
      h("td", { class: "faint", text: score(weight, 2) }),
    );
  });
  return h(
    "table", { class: "weights" },
    h("caption", { text: "Routing weights: softmax, and as the head gave them" }),
    h("tbody", {}, ...rows),
  );
}

function runnersUp(token) {
  if (token.alternatives.length === 0) return null;
  const both = token.alternatives.some((other) => other.routerLogit !== null || other.expertLogit !== null);
  const rows = token.alternatives.map((other) => {
    const isThis = other.id === null ? other.text === token.text : other.id === token.id;
    return h(
      "tr", { class: isThis ? "chosen" : null },
      h("th", { scope: "row" }, h("code", { text: visible(other.text) })),
      h("td", { class: "wide" }, bar(Math.exp(other.logprob ?? -Infinity), experts.style(token.expert))),
      h("td", { text: probability(other.logprob) }),
      both && h("td", { class: "faint", text: score(other.routerLogit, 2) }),
      both && h("td", { class: "faint", text: score(other.expertLogit, 2) }),
    );
  });
  const head = ["Candidate", "", "p", ...(both ? ["router", "expert"] : [])];
  return h(
    "table", { class: "runners" },
    h("caption", { text: "Most probable tokens" }),
    h("thead", {}, h("tr", {}, ...head.map((text) => (text ? h("th", { scope: "col", text }) : h("td"))))),
    h("tbody", {}, ...rows),
  );
}

class Card {
  #root = h("div", { class: "card", id: "card", role: "tooltip", hidden: true });
  #pinned = false;

  constructor() {
    (document.getElementById("main") ?? document.body).append(this.#root);
    const scrolled = () => this.isOpen && !this.#pinned && this.hide();
    document.addEventListener("scroll", scrolled, { capture: true, passive: true });
    document.addEventListener("pointerdown", (event) => {
      if (this.#pinned && !this.#root.contains(event.target) && !event.target.closest?.(".t")) this.hide();
    });
    addEventListener("resize", () => this.hide());
  }

  get isOpen() {
    return !this.#root.hidden;
  }

  get isPinned() {
    return this.#pinned;
  }

  /** Shows `token` beside `anchor`, an element or a rectangle. A pinned card stays until it is dismissed. */
  show(token, index, anchor, { pin = false } = {}) {
    if (this.#pinned && !pin) return;
    this.#pinned = pin;
    this.#root.classList.toggle("pinned", pin);
    const title = h(
      "div", { class: "head" },
      h("code", { class: "token", text: visible(token.text) }),
      tag(token.expert),
      h("span", { class: "faint", text: token.id === null ? `no. ${index + 1}` : `no. ${index + 1}, id ${token.id}` }),
    );
    const loss = "The router's choice was lost: a substitute decided.";
    const degraded = token.degraded && h("p", { class: "warning", text: loss });
    this.#root.replaceChildren(...[title, degraded, scores(token), weights(token), runnersUp(token)].filter(Boolean));
    this.#root.setAttribute("aria-label", `How ${label(token.expert)} came to ${visible(token.text)}`);
    const appears = this.#root.hidden;
    this.#root.hidden = false;
    this.#place(anchor.getBoundingClientRect?.() ?? anchor);
    if (appears && !calm()) this.#root.animate({ opacity: [0, 1] }, { duration: 90 });
  }

  /** Below the token where there is room, else above; on a phone the style sheet puts it at the bottom. */
  #place(target) {
    const style = this.#root.style;
    style.left = style.top = "0";
    const box = this.#root.getBoundingClientRect();
    const margin = 8;
    const left = Math.min(Math.max(margin, target.left - 12), innerWidth - box.width - margin);
    const below = target.bottom + margin;
    const above = target.top - box.height - margin;
    const fits = below + box.height <= innerHeight - margin || above < margin;
    style.left = `${Math.max(margin, left)}px`;
    style.top = `${Math.max(margin, fits ? Math.min(below, innerHeight - box.height - margin) : above)}px`;
  }

  hide() {
    this.#root.hidden = true;
    this.#pinned = false;
  }
}

export const card = new Card();
