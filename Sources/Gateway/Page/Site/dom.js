// The few things every part needs to make and move elements. Text always becomes text nodes, never markup.

/** An element. `props`: `on` (listeners), `text`; anything else is an attribute, which false and null leave out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const svgNamespace = "http://www.w3.org/2000/svg";

/** One of the drawings in index.html; what it means is said by its button. */
export function icon(name) {
  const svg = document.createElementNS(svgNamespace, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(svgNamespace, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** A button; `style` is its class. */
export function button(text, action, style = "plain") {
  return h("button", { type: "button", class: style, text, on: { click: action } });
}

/** A button with a drawing; `label` is its tooltip and its name. */
export function iconButton(name, label, action) {
  const props = { type: "button", class: "quiet", title: label, "aria-label": label, on: { click: action } };
  return h("button", props, icon(name));
}

/** Runs `work` once before the next picture, however often it was asked for. */
export function batched(work) {
  let timer = null;
  const run = () => {
    if (timer === null) return;
    clearTimeout(timer);
    timer = null;
    work();
  };
  const schedule = () => {
    if (timer !== null) return;
    requestAnimationFrame(run);
    // A hidden page gets no pictures.
    timer = setTimeout(run, 250);
  };
  return { schedule, run };
}

/** Speaks one sentence to screen readers. */
export function announce(sentence) {
  const live = document.getElementById("live");
  live.textContent = "";
  // The same sentence twice is a change only if there was none in between.
  requestAnimationFrame(() => (live.textContent = sentence));
}

let toastTimer;

/** A short message at the bottom; `action` is `{label, run}`. */
export function toast(message, action) {
  const box = document.getElementById("toast");
  const close = () => (box.hidden = true);
  const children = [h("span", { text: message })];
  if (action) {
    const run = () => (close(), action.run());
    children.push(button(action.label, run));
  }
  box.replaceChildren(...children);
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(close, action ? 8000 : 3000);
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    // Without TLS browsers offer a clipboard on this machine's own addresses only.
    const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    toast(copied ? `${what} copied` : "The browser does not allow copying here");
  }
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
