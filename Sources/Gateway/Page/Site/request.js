// What is asked of the server.

/** Order and names of the modes. */
export const modes = (experts) => [
  "fusionroute",
  "fusionroute:no-complement",
  "fusionroute:router",
  ...experts.map((name) => `fusionroute:expert:${name}`),
];

export function modeTitle(model) {
  if (model === "fusionroute") return "Fusion";
  if (model === "fusionroute:no-complement") return "No complement";
  if (model === "fusionroute:router") return "Router alone";
  const expert = /^fusionroute:expert:(.*)$/.exec(model);
  return expert ? `Expert ${expert[1]} alone` : model;
}

export function modeHint(model) {
  if (model === "fusionroute") return "The router picks an expert for every token and adds its own logits.";
  if (model === "fusionroute:no-complement") return "The router picks, the expert's logits alone decide.";
  if (model === "fusionroute:router") return "The router's own model answers, no expert takes part.";
  if (model.startsWith("fusionroute:expert:")) return "This expert answers alone.";
  return "";
}

/** Experts by name, as `/v1/models` lists their modes. */
export const expertsOfModels = (ids) =>
  ids.filter((id) => id.startsWith("fusionroute:expert:")).map((id) => id.slice("fusionroute:expert:".length));

export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/**
 * The body of a chat completion. `turns`: `{prompt, reply}` in order, the last without reply. Earlier ones without are
 * left out: many templates want question and answer in turn.
 */
export function chatBody({ settings, model, turns, seed }) {
  const messages = [];
  if (settings.system.trim() !== "") messages.push({ role: "system", content: settings.system });
  for (const { prompt, reply } of turns.slice(0, -1).filter((turn) => turn.reply)) {
    messages.push({ role: "user", content: prompt }, { role: "assistant", content: reply });
  }
  messages.push({ role: "user", content: turns.at(-1).prompt });
  const body = {
    model,
    messages,
    temperature: settings.temperature,
    top_p: settings.topP,
    max_tokens: settings.maxTokens,
    seed,
    stream_options: { include_usage: true },
  };
  if (settings.alternatives > 0) {
    body.logprobs = true;
    body.top_logprobs = settings.alternatives;
    body.fusionroute = { alternatives: settings.alternatives };
  }
  return body;
}
