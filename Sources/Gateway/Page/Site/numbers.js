// Arithmetic and number formats.

/** Shares that sum to 1; weights may be any finite numbers. */
export function softmax(weights) {
  const largest = Math.max(...weights);
  const powers = weights.map((w) => Math.exp(w - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / sum);
}

/** Whole percents that sum to 100 (largest remainders), for counts of which one is positive. */
export function wholePercents(counts) {
  const total = counts.reduce((a, b) => a + b, 0);
  if (total <= 0) return counts.map(() => 0);
  const exact = counts.map((count) => (100 * count) / total);
  const whole = exact.map(Math.floor);
  const order = exact.map((value, i) => [value - whole[i], i]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  const missing = 100 - whole.reduce((a, b) => a + b, 0);
  for (const [, i] of order.slice(0, missing)) whole[i] += 1;
  return whole;
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n) => grouped.format(n);
export const compact = (n) => (n < 10_000 ? grouped.format(n) : short.format(n));
export const plural = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;

const minus = (text) => text.replace("-", "−");
const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

/** A logit or log-probability; a dash where there is none. */
export const score = (x, digits = 3) => (isNumber(x) ? minus(x.toFixed(digits)) : "–");

/** A probability from its natural logarithm. */
export function probability(logprob) {
  if (!isNumber(logprob)) return "–";
  return percent(Math.exp(logprob));
}

/** A share of 1. */
export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  if (value < 100 && value > 99.9) return "> 99.9 %";
  return `${value.toFixed(value > 0 && value < 10 ? 1 : 0)} %`;
}

export function duration(ms) {
  if (!isNumber(ms)) return "–";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return span(ms / 1000);
}

/** A long time, such as the one since a start. */
export function span(seconds) {
  const s = Math.floor(seconds);
  const [d, h, m] = [Math.floor(s / 86_400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${m} min`;
  if (m > 0) return `${m} min ${s % 60} s`;
  return `${s} s`;
}

export const rate = (x) => (isNumber(x) ? (x < 100 ? x.toFixed(1) : count(x)) : "–");
