// The cluster's live state.
import { get } from "./api.js";
import { bar } from "./card.js";
import { h } from "./dom.js";
import { experts, tag } from "./experts.js";
import { evaluationRates, splitBetween } from "./load.js";
import { compact, count, percent, rate, span, wholePercents } from "./numbers.js";
import { splitBar } from "./split.js";

const interval = 1000;
/** Snapshots kept: a minute. */
const remembered = 60;
/** Milliseconds without a heartbeat that are worth a word. */
const longSilence = 3000;

const fact = (name, text, hint) =>
  h("div", { class: "fact", title: hint }, h("dt", { text: name }), h("dd", { text }));

/** A line that begins with a sign of how well something is: good, warn or bad. */
const stateLine = (how, ...children) =>
  h("p", { class: `state ${how}` }, h("i", { "aria-hidden": "true" }), ...children);

const badge = (text, title) => h("span", { class: "badge", text, title });

function replicaState(replica) {
  if (replica.state === "quarantined") return "bad";
  return replica.state === "serving" && replica.silence_ms < longSilence ? "good" : "warn";
}

function sparkline(values) {
  const most = Math.max(1, ...values);
  const width = Math.max(values.length, 15);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const points = values.map((value, i) => `${i + width - values.length},${30 - (28 * value) / most}`).join(" ");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${width - 1} 32`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  line.setAttribute("points", points);
  svg.append(line);
  return svg;
}

export class ClusterPanel {
  #root = document.getElementById("cluster");
  #timer = null;
  #snapshots = [];
  #isOpen = false;
  #listeners = new Set();

  constructor() {
    document.addEventListener("visibilitychange", () => this.#arm());
  }

  /** Called with each status, or with null and the error. */
  onStatus(listener) {
    this.#listeners.add(listener);
  }

  set isOpen(open) {
    this.#isOpen = open;
    this.#arm();
  }

  /** Asks every second, but only while somebody can see it. */
  #arm() {
    clearTimeout(this.#timer);
    if (this.#isOpen && !document.hidden) this.refresh();
  }

  async refresh() {
    clearTimeout(this.#timer);
    try {
      const status = await get("/fusionroute/status", { quiet: true });
      const last = this.#snapshots.at(-1);
      // A coordinator that started anew counts from zero.
      if (last && status.uptime_s < last.uptime_s) this.#snapshots = [];
      this.#snapshots.push(status);
      if (this.#snapshots.length > remembered) this.#snapshots.shift();
      experts.learn(status.experts.map((expert) => expert.name));
      if (this.#isOpen) this.#draw(status);
      this.#root.classList.remove("stale");
      for (const listener of this.#listeners) listener(status, null);
    } catch (error) {
      this.#root.classList.add("stale");
      this.#complain(error);
      for (const listener of this.#listeners) listener(null, error);
    }
    clearTimeout(this.#timer);
    if (this.#isOpen && !document.hidden) this.#timer = setTimeout(() => this.refresh(), interval);
  }

  /** Says what is wrong above the last state that is known. */
  #complain(error) {
    this.#root.querySelector(".problem")?.remove();
    const line = stateLine("bad", error.message);
    line.classList.add("problem");
    this.#root.prepend(line);
  }

  #draw(status) {
    // Somebody is about to copy something from it.
    const selection = getSelection();
    if (!selection.isCollapsed && this.#root.contains(selection.anchorNode)) return;
    const rates = evaluationRates(this.#snapshots.at(-4) ?? this.#snapshots[0], status);
    const total = status.experts.reduce((sum, expert) => sum + expert.tokens, 0);
    const shares = wholePercents(status.experts.map((expert) => expert.tokens));
    const scrolled = this.#root.scrollTop;
    this.#root.replaceChildren(
      this.#headline(status),
      ...this.#time(status),
      h("h3", { text: "Router" }),
      this.#router(status.router, rates.get("router")),
      h("h3", { text: "Experts" }),
      ...status.experts.map((expert, i) => this.#expert(expert, total > 0 ? shares[i] : null, rates)),
      h("p", { class: "faint version", text: `FusionRoute ${status.version}, up ${span(status.uptime_s)}` }),
    );
    this.#root.scrollTop = scrolled;
  }

  #headline(status) {
    const { running, waiting, queue_limit: limit, finished, failed, cancelled, refused } = status.requests;
    const { prompt_tokens: prompt, cached_tokens: cached, failovers } = status.totals;
    return h(
      "div", {},
      stateLine(status.ready ? "good" : "bad", status.ready ? "Ready" : `Not ready: ${status.reason}`),
      h("div", { class: "big" },
        h("strong", { text: rate(status.tokens_per_second) }), h("span", { text: "tokens/s" }),
        sparkline(this.#snapshots.map((snapshot) => snapshot.tokens_per_second))),
      h("dl", { class: "facts-grid" },
        fact("Running", count(running)),
        fact("Waiting", `${count(waiting)} of ${count(limit)}`, "requests in the queue, and its limit"),
        fact("Finished", compact(finished)),
        fact("Failed", compact(failed)),
        fact("Cancelled", compact(cancelled)),
        fact("Refused", compact(refused), "turned away with 429"),
        fact("Prompt cached", prompt > 0 ? percent(cached / prompt) : "–", "prompt tokens found in a KV cache"),
        fact("Failovers", count(failovers), "sequences moved to another replica")),
    );
  }

  #time(status) {
    const before = this.#snapshots.at(-11) ?? this.#snapshots[0];
    let between = splitBetween(before, status);
    const isRecent = between.tokens > 0;
    if (!isRecent) between = splitBetween(null, status);
    const split = splitBar(between.micros, between.tokens);
    const title = isRecent ? "Time per token, last 10 s" : "Time per token, since the start";
    return split ? [h("h3", { text: title }), split] : [];
  }

  #router(router, speed) {
    return h(
      "div", { class: "box" },
      h("p", { class: "name" }, h("b", { text: router.model.split("/").at(-1) })),
      this.#kv(router.kv_tokens, router.slots * router.context),
      h("dl", { class: "facts-grid" },
        fact("Sequences", `${count(router.resident_sequences)} of ${count(router.slots)}`),
        fact("Queue", count(router.queued)),
        fact("Evaluates", `${rate(speed)} /s`, "tokens per second through the model, prompts included")),
    );
  }

  #expert(expert, share, rates) {
    const decided = `${compact(expert.tokens)} tokens${share === null ? "" : `, ${share} %`}`;
    const name = h("p", { class: "name" }, tag(expert.name), h("span", { class: "faint", text: decided }));
    if (!expert.routed) name.append(badge("not in the head"));
    const replicas = expert.replicas.map((replica) => this.#replica(replica, rates.get(replica.id)));
    return h("div", { class: "box" }, name, ...(replicas.length > 0 ? replicas : [stateLine("bad", "No replica")]));
  }

  #replica(replica, speed) {
    const silence = replica.silence_ms >= longSilence && badge(`silent ${span(replica.silence_ms / 1000)}`);
    const about = "Its results depend on what else is in a batch";
    const varies = !replica.batch_invariant && badge("not batch-invariant", about);
    const place = `${replica.host}, pid ${replica.pid}`;
    return h(
      "div", { class: "replica" },
      stateLine(replicaState(replica), h("b", { text: replica.state }), place, silence, varies),
      this.#kv(replica.kv_tokens, replica.slots * replica.context),
      h("dl", { class: "facts-grid" },
        fact("Sequences", `${count(replica.sequences)} of ${count(replica.slots)}`),
        fact("Queue", count(replica.queued), "requests of all its coordinators that it has not answered"),
        fact("Under way", count(replica.under_way)),
        fact("Evaluates", `${rate(speed)} /s`, "tokens per second through the model, prompts included")),
    );
  }

  #kv(used, room) {
    const share = room > 0 ? used / room : 0;
    return h("p", { class: "kv", title: `${count(used)} of ${count(room)} tokens in the KV cache` },
      h("span", { class: "faint", text: "KV" }), bar(share), h("span", { text: percent(share) }),
      h("span", { class: "visually-hidden", text: `${count(used)} of ${count(room)} tokens` }));
  }
}
