// What two snapshots of /fusionroute/status tell about the time between them.

const splitKeys = ["router_queue", "router_compute", "wire", "expert_queue", "expert_compute", "merge"];

const replicas = (status) => status.experts.flatMap((expert) => expert.replicas);

/** Microseconds by part, and the tokens they were spent on. `before` null: since the coordinator's start. */
export function splitBetween(before, now) {
  const start = before && before.uptime_s <= now.uptime_s ? before.totals : null;
  const micros = {};
  for (const key of splitKeys) micros[key] = now.totals[`${key}_us`] - (start?.[`${key}_us`] ?? 0);
  return { micros, tokens: now.totals.generated_tokens - (start?.generated_tokens ?? 0) };
}

/** Tokens per second through each model, by replica id and "router"; null where the two snapshots do not tell. */
export function evaluationRates(before, now) {
  const seconds = before ? now.uptime_s - before.uptime_s : 0;
  const old = new Map();
  if (before) {
    old.set("router", before.router.evaluated_tokens);
    for (const replica of replicas(before)) old.set(replica.id, replica.evaluated_tokens);
  }
  const rate = (id, tokens) => {
    const grown = tokens - (old.get(id) ?? Infinity);
    return seconds > 0 && grown >= 0 ? grown / seconds : null;
  };
  const rates = new Map([["router", rate("router", now.router.evaluated_tokens)]]);
  for (const replica of replicas(now)) rates.set(replica.id, rate(replica.id, replica.evaluated_tokens));
  return rates;
}
