// Puts the parts together.
import { apiKey, get, onReach, setKeyPrompt } from "./api.js";
import { card } from "./card.js";
import { Chat } from "./chat.js";
import { ClusterPanel } from "./cluster.js";
import { h, toast } from "./dom.js";
import { experts, tag } from "./experts.js";
import { rate } from "./numbers.js";
import { expertsOfModels, modes } from "./request.js";
import { connectSettings, offerModels, onSettings, settings, summary } from "./settings.js";
import { kept } from "./storage.js";

const id = (name) => document.getElementById(name);
const chat = new Chat();
const cluster = new ClusterPanel();

// Theme.

const themes = ["auto", "light", "dark"];
const showTheme = () => {
  const theme = document.documentElement.dataset.theme;
  const names = { auto: "as the system", light: "light", dark: "dark" };
  id("theme").title = `Theme: ${names[theme]}`;
  id("theme").setAttribute("aria-label", `Theme: ${names[theme]}`);
  id("theme").querySelector("use").setAttribute("href", `#i-theme-${theme}`);
  document.dispatchEvent(new Event("themechange"));
  for (const canvas of document.querySelectorAll("canvas")) canvas.dispatchEvent(new Event("themechange"));
};
id("theme").addEventListener("click", () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
  document.documentElement.dataset.theme = next;
  kept.set("fusionroute.theme", next);
  showTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);

// Side panel: beside the chat where there is room, over it where there is not.

const wide = matchMedia("(min-width: 68rem)");
const tabs = [...document.querySelectorAll("[role=tab]")];
let panelWasOpenedBy = null;

function showPanel(open, tab = null, opener = null) {
  const panel = id("side");
  const hadFocus = panel.contains(document.activeElement);
  panel.hidden = !open;
  document.body.classList.toggle("with-side", open);
  if (tab) selectTab(tab);
  const covers = open && !wide.matches;
  id("main").inert = covers;
  cluster.isOpen = open && !id("cluster").hidden;
  for (const button of [id("show-cluster"), id("show-settings")]) {
    const shown = open && !id(button.dataset.panel).hidden;
    button.setAttribute("aria-expanded", String(shown));
  }
  if (opener) panelWasOpenedBy = opener;
  if (covers) tabs.find((button) => button.ariaSelected === "true").focus();
  if (hadFocus && !open) panelWasOpenedBy?.focus();
}

function selectTab(name) {
  for (const tab of tabs) {
    const chosen = tab.dataset.panel === name;
    tab.ariaSelected = String(chosen);
    tab.tabIndex = chosen ? 0 : -1;
    id(tab.dataset.panel).hidden = !chosen;
  }
}

for (const [i, tab] of tabs.entries()) {
  tab.addEventListener("click", () => showPanel(true, tab.dataset.panel));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return;
    const next = tabs[(i + 1) % tabs.length];
    showPanel(true, next.dataset.panel);
    next.focus();
  });
}
for (const button of [id("show-cluster"), id("show-settings")]) {
  button.addEventListener("click", () => {
    const shown = !id("side").hidden && !id(button.dataset.panel).hidden;
    showPanel(!shown, button.dataset.panel, button);
  });
}
id("close-side").addEventListener("click", () => showPanel(false));
wide.addEventListener("change", () => showPanel(wide.matches));

// Composer.

const prompt = id("prompt");
const grow = () => {
  if (CSS.supports("field-sizing", "content")) return;
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
};
const isComparing = () => id("compare").getAttribute("aria-pressed") === "true";

function submit() {
  if (chat.isBusy || prompt.value.trim() === "") return;
  const text = prompt.value;
  prompt.value = "";
  grow();
  chat.send(text, { compare: isComparing() }).finally(() => cluster.refresh());
}

function showComposer() {
  id("send").hidden = chat.isBusy;
  id("stop").hidden = !chat.isBusy;
  id("send").disabled = prompt.value.trim() === "";
  id("welcome").hidden = !chat.isEmpty;
  id("in-turn").hidden = !isComparing();
}

id("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
prompt.addEventListener("input", () => {
  grow();
  showComposer();
});
prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
});
id("stop").addEventListener("click", () => {
  chat.stop();
  prompt.focus();
});
id("new-chat").addEventListener("click", () => {
  chat.clear();
  prompt.focus();
});
id("compare").addEventListener("click", () => {
  id("compare").setAttribute("aria-pressed", String(!isComparing()));
  showComposer();
});
id("at-once").addEventListener("change", (event) => (chat.compareInTurn = !event.target.checked));
id("open-settings").addEventListener("click", () => showPanel(true, "settings", id("open-settings")));
for (const example of document.querySelectorAll("#welcome .example")) {
  example.addEventListener("click", () => {
    prompt.value = example.textContent;
    submit();
  });
}
chat.onChange(showComposer);

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  // One thing at a time, the topmost first.
  if (card.isPinned) card.hide();
  else if (!id("side").hidden && !wide.matches) showPanel(false);
  else if (chat.isBusy) chat.stop();
  else card.hide();
});

// API key.

setKeyPrompt((reason, wasTried) => {
  const dialog = id("key-dialog");
  const input = id("key");
  id("key-reason").textContent = wasTried ? `That key was not accepted. ${reason}` : reason;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const close = () => resolve(dialog.returnValue === "use" && input.value.trim() !== "" ? input.value.trim() : null);
    dialog.addEventListener("close", close, { once: true });
  });
});
id("cancel-key").addEventListener("click", () => id("key-dialog").close());
id("forget-key").addEventListener("click", () => {
  apiKey.forget();
  toast("The API key is forgotten");
});

// Connection.

let retry = null;
let wait = 1;

function lookAgain() {
  clearTimeout(retry);
  retry = setTimeout(async () => {
    if (document.hidden) return lookAgain();
    await get("/health", { quiet: true }).catch(() => {});
  }, wait * 1000);
  wait = Math.min(10, wait * 2);
}

onReach((isUp) => {
  const wasUp = id("offline").hidden;
  id("offline").hidden = isUp;
  if (!isUp) return lookAgain();
  clearTimeout(retry);
  wait = 1;
  if (wasUp) return;
  toast("Connected again");
  start();
});
addEventListener("online", () => get("/health", { quiet: true }).catch(() => {}));

// State of the cluster.

cluster.onStatus((status, error) => {
  const pill = id("show-cluster");
  const replicas = status?.experts.reduce((sum, expert) => sum + expert.replicas.length, 0);
  let text = "Unreachable";
  if (status) text = status.ready ? "Ready" : "Not ready";
  else if (error.status === 401) text = "Needs a key";
  else if (error.status > 0) text = "Cluster";
  pill.classList.toggle("good", status?.ready === true);
  pill.classList.toggle("bad", status?.ready === false || error?.status === 0);
  pill.querySelector(".word").textContent = text;
  const isBusy = status?.tokens_per_second > 0;
  pill.querySelector(".speed").textContent = isBusy ? `${rate(status.tokens_per_second)} tok/s` : "";
  const size = `${status?.experts.length} experts, ${replicas} replicas`;
  pill.title = error?.message ?? (status.ready ? size : status.reason);
});

experts.onChange(() => {
  id("crew").replaceChildren(...experts.names.map((name) => h("li", {}, tag(name))));
});

async function start() {
  try {
    const { data } = await get("/v1/models");
    const ids = data.map((model) => model.id);
    const ours = modes(expertsOfModels(ids)).filter((mode) => ids.includes(mode));
    chat.modes = ours.length > 0 ? ours : ids;
    offerModels(chat.modes);
    // Where the status is not told, the list gives the names.
    if (experts.names.length === 0) experts.learn(expertsOfModels(ids));
  } catch {
    // What is wrong is said where it matters: above the chat, and when something is asked.
  }
  cluster.refresh();
}

const showSettings = () => {
  id("open-settings").querySelector("span").textContent = summary();
  document.body.classList.toggle("unpainted", !settings.paint);
};
connectSettings();
onSettings(showSettings);
showSettings();
showTheme();
showPanel(wide.matches);
showComposer();
start();
// On a phone the focus would bring up the keyboard.
if (matchMedia("(pointer: fine)").matches) prompt.focus();
