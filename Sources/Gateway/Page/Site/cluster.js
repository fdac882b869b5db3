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

const fact = (name, value, hint) => h("div", { class: "fact", title: hint }, h("dt", { text: name }), h("dd", {}, ...[value].flat()));

function sparkline(values) {
  const most = Math.max(1, ...values);
  const width = Math.max(values.length, 15);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const points = values.map((value, i) => `${i + width - values.length},${30 - (28 * value) / most}`).join(" ");
  for (const [name, value] of Object.entries({ class: "spark", viewBox: `0 0 ${width - 1} 32`, preserveAspectRatio: "none", "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
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
      if (this.#snapshots.length === 0) this.#root.replaceChildren(h("p", { class: "faint", text: error.message }));
      for (const listener of this.#listeners) listener(null, error);
    }
    clearTimeout(this.#timer);
    if (this.#isOpen && !document.hidden) this.#timer = setTimeout(() => this.refresh(), interval);
  }

  #draw(status) {
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
      h("p", { class: `state ${status.ready ? "good" : "bad"}` }, h("i", { "aria-hidden": "true" }), status.ready ? "Ready" : `Not ready: ${status.reason}`),
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
    const name = h("p", { class: "name" }, tag(expert.name), h("span", { class: "faint", text: `${compact(expert.tokens)} tokens${share === null ? "" : `, ${share} %`}` }));
    if (!expert.routed) name.append(h("span", { class: "badge", text: "not in the head" }));
    if (expert.replicas.length === 0) return h("div", { class: "box" }, name, h("p", { class: "state bad" }, h("i", { "aria-hidden": "true" }), "No replica"));
    return h("div", { class: "box" }, name, ...expert.replicas.map((replica) => this.#replica(replica, rates.get(replica.id))));
  }

  #replica(replica, speed) {
    const late = replica.silence_ms > 3000;
    const state = replica.state === "serving" ? (late ? "warn" : "good") : replica.state === "quarantined" ? "bad" : "warn";
    return h(
      "div", { class: "replica" },
      h("p", { class: `state ${state}` }, h("i", { "aria-hidden": "true" }),
        h("b", { text: replica.state }), h("span", { text: `${replica.host}, pid ${replica.pid}` }),
        late && h("span", { class: "badge", text: `silent ${span(replica.silence_ms / 1000)}` }),
        !replica.batch_invariant && h("span", { class: "badge", title: "Its results depend on what else is in a batch", text: "not batch-invariant" })),
      this.#kv(replica.kv_tokens, replica.slots * replica.context),
      h("dl", { class: "facts-grid" },
        fact("Sequences", `${count(replica.sequences)} of ${count(replica.slots)}`),
        fact("Queue", count(replica.queued), "as its last heartbeat said"),
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
