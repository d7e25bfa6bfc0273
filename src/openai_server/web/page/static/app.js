// The page: its views, its key, and what it says of the server's state.
import { ask, Refusal, storedKey, storeKey } from "./api.js";
import { Chat } from "./chat.js";
import { startCode } from "./code.js";
import { at, element } from "./dom.js";
import { Overview } from "./overview.js";

// Seconds between questions whether the server is ready, where its stream cannot be read.
const PROBE = 5;

let probe = 0;

const chat = new Chat(refused);
const overview = new Overview(told, lost);

startCode();
startKey();
addEventListener("hashchange", showView);
showView();
// The page is shown first.
addEventListener("load", () => setTimeout(start));

// For whoever tries things out in the browser's console.
globalThis.chat = chat;

function start() {
  showWhetherKey();
  loadModels();
  overview.follow();
}

// Views.

function showView() {
  const isSee = location.hash === "#see";
  at("try").hidden = isSee;
  at("see").hidden = !isSee;
  for (const link of document.querySelectorAll("nav a")) {
    if ((link.hash === "#see") === isSee) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = isSee ? "See it - openai-server" : "Try it - openai-server";
}

async function loadModels() {
  try {
    const { data } = await (await ask("v1/models")).json();
    chat.offer(data.map((model) => model.id));
  } catch (error) {
    if (error instanceof Refusal) refused(error);
  }
}

// The server's state.

function told({ daemon, server }) {
  clearTimeout(probe);
  chat.offer(server.models);
  showDaemon(daemon.why);
}

function lost(error) {
  if (!(error instanceof Refusal)) {
    setStatus("bad", "No server");
    notice("This page has lost its server.", "It tries again by itself. If the server was stopped, start it: twistd -n openai-server");
  } else if ([401, 403].includes(error.status)) {
    at("see-shown").hidden = true;
    at("see-empty").hidden = false;
    at("see-empty").textContent = `What the server does is shown to administrators. ${error.message}`;
    refused(error);
    probeReadiness();
  } else {
    setStatus("bad", "No news");
    notice("The server tells this page nothing at present.", error.message);
  }
}

async function probeReadiness() {
  clearTimeout(probe);
  try {
    await ask("readyz");
    showDaemon(null);
  } catch (error) {
    if (error instanceof Refusal) showDaemon(error.message);
    else lost(error);
  }
  probe = setTimeout(probeReadiness, PROBE * 1000);
}

function showDaemon(why) {
  if (why === null) {
    setStatus("good", "Ready");
    notice();
  } else {
    setStatus("bad", "No daemon");
    notice(
      `The daemon cannot be asked: ${why}.`,
      "Start humd on this machine: the server connects by itself (HUM_THRUM_SOCK names another socket). To try things out without humd, start the server with --embedded.",
    );
  }
}

function setStatus(state, text) {
  if (at("status").dataset.state === state && at("status-text").textContent === text) return;
  at("status").dataset.state = state;
  at("status-text").textContent = text;
}

function notice(what, todo) {
  const said = what ? `${what} ${todo}` : "";
  if (at("notice").textContent === said) return;
  at("notice").hidden = !what;
  at("notice").replaceChildren(...(what ? [element("strong", {}, what), " ", todo] : []));
}

// The key.

function startKey() {
  at("key-button").addEventListener("click", () => showKey(at("key-panel").hidden));
  at("key-panel").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(at("key").value.trim());
  });
  at("key-forget").addEventListener("click", () => useKey(""));
}

async function useKey(key) {
  // No header could take it.
  if (/[^!-~]/.test(key)) return showKey(true, "This is no key: there is a space or a foreign letter in it.");
  storeKey(key);
  at("key").value = "";
  at("key-problem").textContent = "";
  showWhetherKey();
  showKey(false);
  await loadModels();
  overview.follow();
}

function showWhetherKey() {
  at("key-button").textContent = storedKey() ? "Key is set" : "Key";
  at("key-forget").hidden = !storedKey();
}

function showKey(isShown, problem = "") {
  const wasHidden = at("key-panel").hidden;
  at("key-panel").hidden = !isShown;
  at("key-button").setAttribute("aria-expanded", String(isShown));
  at("key-problem").textContent = problem;
  if (isShown && wasHidden) at("key").focus();
}

function refused(error) {
  if (error.code === "invalid_api_key") {
    const wrong = "This key is wrong. Type it again, or ask the operator of the server for another.";
    // It is known, and says why it is good no longer.
    const why = error.message.startsWith("This API key") ? error.message : wrong;
    showKey(true, storedKey() ? why : "This server wants an API key.");
  } else if (error.status === 429 && error.message.includes("wrong API keys")) {
    showKey(true, error.message);
  }
}
