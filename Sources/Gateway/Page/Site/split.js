// Where the time of an answer went.
import { h } from "./dom.js";
import { duration, percent } from "./numbers.js";

const parts = [
  ["router_queue", "Router, waiting", "s0"],
  ["router_compute", "Router, computing", "s1"],
  ["wire", "Wire", "s2"],
  ["expert_queue", "Expert, waiting", "s3"],
  ["expert_compute", "Expert, computing", "s4"],
  ["merge", "Merging", "s5"],
];

/** A stacked bar with its legend. `micros`: microseconds by part; `per`: how many tokens they are shared by. */
export function splitBar(micros, per) {
  const total = parts.reduce((sum, [key]) => sum + (micros[key] ?? 0), 0);
  if (!(total > 0)) return null;
  const bar = h("div", { class: "split", "aria-hidden": "true" });
  const list = h("ul", { class: "split-legend" });
  for (const [key, name, style] of parts) {
    const value = micros[key] ?? 0;
    const segment = h("span", { class: style, title: `${name}: ${percent(value / total)}` });
    segment.style.flexGrow = String(value / total);
    bar.append(segment);
    const time = duration(value / 1000 / Math.max(1, per));
    list.append(
      h("li", {}, h("i", { class: style, "aria-hidden": "true" }), h("span", { text: name }),
        h("b", { text: percent(value / total) }), h("span", { class: "faint", text: time })),
    );
  }
  return h("div", { class: "split-box" }, bar, list);
}
