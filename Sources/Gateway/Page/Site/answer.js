// An answer as its stream's chunks build it. Nothing here knows the document.
import { softmax } from "./numbers.js";

/** One generated token with all that the server told about it. */
function makeToken(raw) {
  const weights = Array.isArray(raw.weights) ? raw.weights : [];
  return {
    id: raw.id,
    text: raw.text ?? "",
    expert: raw.expert ?? null,
    logit: raw.logit ?? null,
    routerLogit: raw.router_logit ?? null,
    expertLogit: raw.expert_logit ?? null,
    weights,
    shares: weights.length > 0 ? softmax(weights) : [],
    degraded: raw.degraded === true,
    logprob: null,
    alternatives: (raw.alternatives ?? []).map((other) => ({
      id: other.id,
      text: other.text ?? "",
      logprob: other.logprob ?? null,
      routerLogit: other.router_logit ?? null,
      expertLogit: other.expert_logit ?? null,
    })),
  };
}

export class Answer {
  tokens = [];
  text = "";
  /** Generated tokens by expert; the key null counts those that no expert took part in. */
  counts = new Map();
  finish = null;
  usage = null;
  /** The top-level `fusionroute` object of the last chunk. */
  report = null;
  #logprobs = 0;

  /**
   * Takes one chunk of `/v1/chat/completions` and returns how many tokens it added. Text without a token of its own
   * becomes one whose id is null.
   */
  take(chunk) {
    if (chunk.usage) this.usage = chunk.usage;
    if (chunk.fusionroute) this.report = chunk.fusionroute;
    const choice = chunk.choices?.find((c) => (c.index ?? 0) === 0);
    if (!choice) return 0;
    if (choice.finish_reason) this.finish = choice.finish_reason;
    const content = choice.delta?.content ?? "";
    const told = choice.fusionroute?.tokens;
    // A server that tells no tokens still gets its text shown, one piece a chunk.
    const fresh = (told ?? (content ? [{ id: null, text: content }] : [])).map(makeToken);
    this.#addRest(content, fresh);
    for (const token of fresh) {
      this.tokens.push(token);
      if (token.id === null) continue;
      this.counts.set(token.expert, (this.counts.get(token.expert) ?? 0) + 1);
    }
    this.text += content;
    this.#addLogprobs(choice.logprobs?.content ?? []);
    return fresh.length;
  }

  /** Text that became certain only with the end belongs behind the last token's. */
  #addRest(content, fresh) {
    const told = fresh.map((token) => token.text).join("");
    if (content.length <= told.length || !content.startsWith(told)) return;
    const rest = content.slice(told.length);
    if (fresh.length > 0) fresh.at(-1).text += rest;
    else fresh.push(makeToken({ id: null, text: rest }));
  }

  /** The n-th entry belongs to the n-th token, whichever chunk either comes in. */
  #addLogprobs(entries) {
    for (const entry of entries) {
      const token = this.tokens[this.#logprobs];
      this.#logprobs += 1;
      if (!token) continue;
      token.logprob = entry.logprob ?? null;
      if (token.alternatives.length === 0 && Array.isArray(entry.top_logprobs)) {
        token.alternatives = entry.top_logprobs.map((other) => ({
          id: null,
          text: other.token ?? "",
          logprob: other.logprob ?? null,
          routerLogit: null,
          expertLogit: null,
        }));
      }
    }
  }

  /** Index of the first token that differs from `other`'s; null where none does. */
  firstDifference(other) {
    const length = Math.min(this.tokens.length, other.tokens.length);
    for (let i = 0; i < length; i += 1) if (this.tokens[i].id !== other.tokens[i].id) return i;
    return this.tokens.length === other.tokens.length ? null : length;
  }

  /** For bug reports and notebooks. */
  toJSON() {
    const { text, finish, usage, report, tokens } = this;
    return { text, finish_reason: finish, usage, fusionroute: report, tokens };
  }
}
