// What the person can set, kept for the next visit.
import { h } from "./dom.js";
import { modeHint, modeTitle } from "./request.js";
import { kept } from "./storage.js";

const storageName = "fusionroute.settings";

const defaults = {
  model: "fusionroute", temperature: 0.7, topP: 1, maxTokens: 512, seed: null, alternatives: 5, system: "", paint: true,
};
const limits = {
  temperature: { least: 0, most: 2 },
  topP: { least: 0.01, most: 1 },
  maxTokens: { least: 1, most: 1_000_000, whole: true },
  seed: { least: 0, most: Number.MAX_SAFE_INTEGER, whole: true, optional: true },
  alternatives: { least: 0, most: 20, whole: true },
};

/** The number that `text` says; null for none where that is allowed; undefined where it is no number in the limits. */
export function parseSetting(name, text) {
  const { least, most, whole = false, optional = false } = limits[name];
  if (text.trim() === "") return optional ? null : undefined;
  const value = Number(text);
  if (!Number.isFinite(value) || value < least || value > most || (whole && !Number.isInteger(value))) return undefined;
  return value;
}

/** Stored settings as far as they are good, defaults for the rest. */
export function readSettings(text) {
  let stored = {};
  try {
    stored = JSON.parse(text ?? "{}") ?? {};
  } catch {
    // Something else wrote it; the defaults replace it.
  }
  const result = { ...defaults };
  for (const name of ["model", "system"]) if (typeof stored[name] === "string") result[name] = stored[name];
  if (typeof stored.paint === "boolean") result.paint = stored.paint;
  for (const name of Object.keys(limits)) {
    const value = stored[name] === undefined ? undefined : parseSetting(name, String(stored[name] ?? ""));
    if (value !== undefined) result[name] = value;
  }
  return result;
}

export const settings = readSettings(kept.get(storageName));
const listeners = new Set();
export const onSettings = (listener) => listeners.add(listener);

export function change(name, value) {
  settings[name] = value;
  kept.set(storageName, JSON.stringify(settings));
  for (const listener of listeners) listener();
}

const field = (name) => document.getElementById(`set-${name}`);
const shown = (value) => (value === null ? "" : String(value));

function connectNumber(name) {
  const input = field(name);
  const slider = document.getElementById(`slide-${name}`);
  const show = (value) => {
    input.value = shown(value);
    if (slider) slider.value = shown(value);
  };
  const take = (text, from) => {
    const value = parseSetting(name, text);
    input.setAttribute("aria-invalid", String(value === undefined));
    if (value === undefined) return;
    if (slider && from !== slider) slider.value = shown(value);
    if (from !== input) input.value = shown(value);
    change(name, value);
  };
  input.addEventListener("input", () => take(input.value, input));
  // What is not allowed goes back to what is in force.
  input.addEventListener("change", () => {
    show(settings[name]);
    input.setAttribute("aria-invalid", "false");
  });
  slider?.addEventListener("input", () => take(slider.value, slider));
  show(settings[name]);
}

/** Fills the mode menu; a mode that is gone stays selected until another is chosen. */
export function offerModels(ids) {
  const select = field("model");
  const all = ids.includes(settings.model) ? ids : [settings.model, ...ids];
  select.replaceChildren(...all.map((id) => h("option", { value: id, title: modeHint(id), text: modeTitle(id) })));
  select.value = settings.model;
}

export function connectSettings() {
  for (const name of Object.keys(limits)) connectNumber(name);
  offerModels([settings.model]);
  field("model").addEventListener("change", (event) => change("model", event.target.value));
  const system = field("system");
  system.value = settings.system;
  system.addEventListener("input", () => change("system", system.value));
  field("paint").checked = settings.paint;
  field("paint").addEventListener("change", (event) => change("paint", event.target.checked));
  document.getElementById("reset-settings").addEventListener("click", () => {
    for (const [name, value] of Object.entries(defaults)) {
      change(name, value);
      if (name in limits || name === "system") field(name).value = shown(value);
      const slider = document.getElementById(`slide-${name}`);
      if (slider) slider.value = shown(value);
    }
    field("model").value = settings.model;
    field("paint").checked = settings.paint;
  });
}

/** The settings in a few words. */
export function summary() {
  const seed = settings.seed === null ? "random seed" : `seed ${settings.seed}`;
  return `T ${settings.temperature} · ${settings.maxTokens} tokens · ${seed}`;
}
