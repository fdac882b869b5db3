// Tests of the page's logic, run in a browser by page_check.py. `run(seed, log)` throws at the first failure.
import { Answer } from "/page/answer.js";
import { AnswerView } from "/page/answer-view.js";
import { BlockCutter } from "/page/blocks.js";
import { evaluationRates, splitBetween } from "/page/load.js";
import { percent, softmax, span, wholePercents } from "/page/numbers.js";
import { chatBody, expertsOfModels, modes, modeTitle } from "/page/request.js";
import { parseSetting, readSettings } from "/page/settings.js";
import { EventParser } from "/page/sse.js";
import { columnRanges } from "/page/strip.js";

/** mulberry32: the seed that is printed repeats a run. */
function generator(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, below: (n) => Math.floor(next() * n), pick: (list) => list[Math.floor(next() * list.length)] };
}

function equal(actual, expected, what) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a === b) return;
  // From a little before the first difference on.
  let start = 0;
  while (a?.[start] === b?.[start]) start += 1;
  const part = (text) => text?.slice(Math.max(0, start - 60), start + 200);
  throw new Error(`${what}: ${part(a)}, expected ${part(b)}`);
}

function check(condition, what) {
  if (!condition) throw new Error(what);
}

/** Pieces of `text` of random length, cut anywhere, also between the halves of a surrogate pair. */
function cut(text, random) {
  const pieces = [];
  for (let i = 0; i < text.length; ) {
    const length = 1 + random.below(random.pick([1, 3, 40]));
    pieces.push(text.slice(i, i + length));
    i += length;
  }
  return pieces;
}

const eventTypes = ["message", "error", "tick"];

/** What the browser's own EventSource makes of the stream that the server sends for `seed`. */
function oracleEvents(seed) {
  return new Promise((resolve) => {
    const source = new EventSource(`/stream/${seed}`);
    const events = [];
    for (const type of eventTypes) {
      source.addEventListener(type, (event) => {
        if (event instanceof MessageEvent) return events.push({ type, data: event.data });
        // The end of the stream.
        source.close();
        resolve(events);
      });
    }
  });
}

const tests = {
  async "events are those of the browser's EventSource"(random) {
    let total = 0;
    for (let round = 0; round < 60; round += 1) {
      const seed = random.below(2 ** 31);
      const [expected, text] = await Promise.all([oracleEvents(seed), fetch(`/stream/${seed}`).then((r) => r.text())]);
      const parser = new EventParser();
      const actual = cut(text, random).flatMap((piece) => parser.push(piece));
      equal(actual, expected, `stream ${seed}`);
      total += expected.length;
    }
    check(total > 40, `only ${total} events: the streams test nothing`);
  },

  "an answer does not depend on how its tokens were put into chunks"(random) {
    const texts = ["Hello", " wörld", "", "🙂", "\n", "```", "<b>", "."];
    const raws = Array.from({ length: 60 }, (_, id) => {
      const [logit, weights] = [random.next(), [random.next(), random.next()]];
      return { id, text: random.pick(texts), expert: random.pick(["a", "b", null]), logit, weights };
    });
    const entries = raws.map((_, i) => ({ token: "?", logprob: -i / 8, top_logprobs: [{ token: "x", logprob: -i }] }));
    const build = (size) => {
      const answer = new Answer();
      for (let i = 0; i < raws.length; ) {
        const part = raws.slice(i, i + size());
        const delta = { content: part.map((raw) => raw.text).join("") };
        const logprobs = { content: entries.slice(i, i + part.length) };
        answer.take({ choices: [{ index: 0, delta, fusionroute: { tokens: part }, logprobs }] });
        i += part.length;
      }
      return answer;
    };
    const one = build(() => 1);
    const many = build(() => 1 + random.below(7));
    equal(many.toJSON(), one.toJSON(), "tokens");
    equal([...many.counts].sort(), [...one.counts].sort(), "counts");
    equal(one.tokens.map((token) => token.text).join(""), raws.map((raw) => raw.text).join(""), "text");
    equal(one.tokens.map((token) => token.logprob), raws.map((_, i) => -i / 8), "log-probabilities");
    equal(one.tokens[3].alternatives[0].text, "x", "OpenAI's alternatives where there are no others");
    equal(one.firstDifference(many), null, "no difference");
    many.tokens[7].id = -1;
    equal(one.firstDifference(many), 7, "first difference");
  },

  "text, usage and report of an answer"() {
    const answer = new Answer();
    answer.take({ choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }] });
    const tokens = [{ id: 1, text: "a", expert: "m" }];
    answer.take({ choices: [{ index: 0, delta: { content: "ab" }, fusionroute: { tokens } }] });
    answer.take({ choices: [{ index: 1, delta: { content: "another choice" } }] });
    answer.take({ choices: [{ index: 0, delta: { content: "rest" } }] });
    answer.take({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }], fusionroute: { failovers: 2 } });
    answer.take({ choices: [], usage: { completion_tokens: 1 } });
    equal(answer.text, "abrest", "text");
    equal(answer.tokens.map((token) => [token.id, token.text]), [[1, "ab"], [null, "rest"]], "tokens");
    equal([...answer.counts], [["m", 1]], "counts");
    equal([answer.finish, answer.report.failovers, answer.usage.completion_tokens], ["stop", 2, 1], "end");
  },

  "code is what stands between fences, wherever the text was cut"(random) {
    const blocks = (pieces) => {
      const result = [{ kind: "prose", pieces: [] }];
      const cutter = new BlockCutter();
      for (const step of pieces.flatMap((piece) => cutter.push(piece))) {
        const own = result.at(-1).pieces;
        if (step.kind === "piece") own.push(step.text);
        else if (step.kind === "prose") result.push({ kind: "prose", pieces: [] });
        else result.push({ kind: "code", pieces: own.splice(own.length - step.move) });
      }
      return result.map(({ kind, pieces: own }) => [kind, own.join("")]).filter(([, text]) => text !== "");
    };
    const known = [
      ["a\n```py\nx = 1\n```\nb", [["prose", "a\n"], ["code", "```py\nx = 1\n```\n"], ["prose", "b"]]],
      ["``` never closed\n\nx", [["code", "``` never closed\n\nx"]]],
      ["not ``` a fence\n    ```\n", [["prose", "not ``` a fence\n    ```\n"]]],
      ["  ```\n1\n  ```\n```\n2\n```", [["code", "  ```\n1\n  ```\n"], ["code", "```\n2\n```"]]],
      ["", []],
    ];
    for (const [text, expected] of known) {
      equal(blocks([text]), expected, JSON.stringify(text));
      for (let round = 0; round < 20; round += 1) equal(blocks(cut(text, random)), expected, `${text} in pieces`);
    }
    for (let round = 0; round < 200; round += 1) {
      const text = Array.from({ length: 30 }, () => random.pick(["`", "``", "```", "\n", " ", "x"])).join("");
      const whole = blocks([text]);
      equal(blocks(cut(text, random)), whole, JSON.stringify(text));
      equal(whole.map(([, part]) => part).join(""), text, "nothing is lost");
    }
  },

  "shares sum to one and percents to a hundred"(random) {
    for (let round = 0; round < 200; round += 1) {
      const size = 1 + random.below(9);
      const weights = Array.from({ length: size }, () => (random.next() - 0.5) * random.pick([1, 50, 2000]));
      const shares = softmax(weights);
      check(Math.abs(shares.reduce((a, b) => a + b) - 1) < 1e-9, `softmax of ${weights}`);
      check(shares.indexOf(Math.max(...shares)) === weights.indexOf(Math.max(...weights)), `largest of ${weights}`);
      const counts = weights.map(() => random.below(random.pick([3, 1000])));
      const total = counts.reduce((a, b) => a + b);
      const whole = wholePercents(counts);
      equal(whole.reduce((a, b) => a + b), total > 0 ? 100 : 0, `percents of ${counts}`);
      const isNear = (n, i) => total === 0 || Math.abs(whole[i] - (100 * n) / total) < 1;
      check(counts.every(isNear), `percents of ${counts}: ${whole}`);
    }
    const [a, b] = softmax([Math.log(3), 0]);
    check(Math.abs(a - 0.75) < 1e-12 && Math.abs(b - 0.25) < 1e-12, "softmax of log 3 and 0");
    const percents = ["0 %", "< 0.1 %", "5.0 %", "50 %", "> 99.9 %", "100 %"];
    equal([0, 0.0001, 0.05, 0.5, 0.99999, 1].map(percent), percents, "percent");
    equal([59, 61, 3700, 90_000].map(span), ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"], "span");
  },

  "columns of the strip are the tokens, each once"(random) {
    for (let round = 0; round < 200; round += 1) {
      const tokens = 1 + random.below(5000);
      const ranges = columnRanges(tokens, 1 + random.below(900));
      equal([ranges[0][0], ranges.at(-1)[1]], [0, tokens], "ends");
      const follows = ([from, to], i) => to > from && (i === 0 || from === ranges[i - 1][1]);
      check(ranges.every(follows), `${tokens} tokens: ${ranges}`);
    }
  },

  "settings outside their limits are refused, and stored ones replaced"() {
    const table = [
      ["temperature", "0.5", 0.5], ["temperature", "-1", undefined], ["temperature", "x", undefined],
      ["temperature", "", undefined], ["temperature", "1e999", undefined], ["topP", "0", undefined], ["topP", "1", 1],
      ["maxTokens", "1.5", undefined], ["maxTokens", "16", 16], ["seed", "", null], ["seed", "-1", undefined],
      ["seed", "9007199254740993", undefined], ["alternatives", "21", undefined],
    ];
    for (const [name, text, expected] of table) equal([parseSetting(name, text)], [expected], `${name} = ${text}`);
    for (const text of [null, "", "null", "[]", "{", '{"temperature":"hot","seed":{},"model":7,"paint":1}']) {
      equal(readSettings(text), readSettings(null), `stored ${text}`);
    }
    equal(readSettings('{"seed":7,"temperature":0}').seed, 7, "a stored seed");
  },

  "what is asked of the server"() {
    const settings = { ...readSettings(null), system: "Be brief.", alternatives: 3, temperature: 0 };
    const turns = [{ prompt: "a", reply: "b" }, { prompt: "c", reply: "" }, { prompt: "d" }];
    const body = chatBody({ settings, model: "fusionroute", seed: 9, turns });
    const messages = ["system:Be brief.", "user:a", "assistant:b", "user:d"];
    equal(body.messages.map((m) => `${m.role}:${m.content}`), messages, "messages");
    equal([body.seed, body.temperature, body.logprobs, body.top_logprobs], [9, 0, true, 3], "options");
    equal(body.fusionroute, { alternatives: 3 }, "own options");
    const few = { ...settings, alternatives: 0, system: " " };
    const plain = chatBody({ settings: few, model: "m", seed: 1, turns: [{ prompt: "x" }] });
    equal(["logprobs" in plain, "fusionroute" in plain], [false, false], "not more than needed");
    equal(plain.messages, [{ role: "user", content: "x" }], "no empty system prompt");
    equal(modes(["x:y"]).map(modeTitle), ["Fusion", "No complement", "Router alone", "Expert x:y alone"], "titles");
    equal(expertsOfModels(["fusionroute", "fusionroute:expert:a:b"]), ["a:b"], "experts");
  },

  "rates between two states of the cluster"() {
    const zeros = { router_queue_us: 0, wire_us: 0, expert_queue_us: 0, expert_compute_us: 0, merge_us: 0 };
    const state = (uptime, router, tokens, generated) => ({
      uptime_s: uptime,
      router: { evaluated_tokens: router },
      experts: [{ name: "a", replicas: [{ id: "r", evaluated_tokens: tokens }] }],
      totals: { ...zeros, generated_tokens: generated, router_compute_us: 10 * generated },
    });
    const [first, second] = [state(10, 100, 50, 4), state(12, 140, 50, 10)];
    equal([...evaluationRates(first, second)], [["router", 20], ["r", 0]], "rates");
    equal([...evaluationRates(null, second)], [["router", null], ["r", null]], "no rates from one state");
    equal([splitBetween(first, second).tokens, splitBetween(first, second).micros.router_compute], [6, 60], "between");
    equal(splitBetween(second, state(1, 0, 0, 2)).tokens, 2, "after a restart: since the start");
  },

  "text of a model never becomes markup"() {
    const hostile = [
      "<img src=x onerror=alert(1)>", "</span><script>", "alert(1)", "</script>", "&lt;b&gt;",
      "\n```html\n<svg onload=alert(1)>\n```\n", "\u202e\u0000",
    ];
    const view = new AnswerView({ title: "test" });
    document.body.append(view.root);
    view.begin();
    for (const [id, text] of hostile.entries()) {
      const token = { id, text, expert: text, weights: [1, 2], alternatives: [{ id: 1, text, logprob: -1 }] };
      view.take({ choices: [{ index: 0, delta: { content: text }, fusionroute: { tokens: [token] } }] });
    }
    view.end({ measured: { seed: 1, first: 2, total: 3 } });
    const text = view.root.querySelector(".text");
    const kinds = new Set([...text.querySelectorAll("*")].map((element) => element.localName));
    equal([...kinds].sort(), ["div", "span"], "elements");
    equal(text.textContent, hostile.join(""), "text");
    for (const [id, raw] of hostile.entries()) {
      const shown = raw.replaceAll(" ", "␣").replaceAll("\n", "⏎");
      text.querySelector(`[data-i="${id}"]`).dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
      equal(document.querySelector("#card .head code").textContent, shown, "the card's title");
      equal(document.querySelectorAll("#card img, #card script, #card svg, #card b").length, 0, "elements in the card");
    }
    view.root.remove();
  },

  async "thousands of tokens are drawn, and none twice"(random) {
    const view = new AnswerView({ title: "test" });
    document.body.append(view.root);
    view.begin();
    const total = 8000;
    for (let i = 0; i < total; i += 1) {
      const text = random.pick([" word", "ly", ".", "\n", " a\nb\nc"]);
      const raw = { id: i, text, expert: random.pick(["a", "b", "c"]), weights: [1, 2, 3] };
      view.take({ choices: [{ index: 0, delta: { content: text }, fusionroute: { tokens: [raw] } }] });
      if (i % 1000 === 0) await new Promise(requestAnimationFrame);
    }
    view.end({ measured: { seed: 1, first: 2, total: 3 } });
    const text = view.root.querySelector(".text");
    equal(text.textContent, view.answer.text, "text");
    equal(new Set([...text.querySelectorAll(".t")].map((t) => t.dataset.i)).size, total, "tokens");
    view.root.remove();
  },
};

export async function run(seed) {
  const random = generator(seed);
  for (const [name, test] of Object.entries(tests)) {
    try {
      await test(random);
    } catch (error) {
      throw new Error(`"${name}", seed ${seed}: ${error.message}\n${error.stack}`);
    }
  }
  return Object.keys(tests).length;
}
