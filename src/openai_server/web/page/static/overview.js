// What the server does, as its stream of events tells it.
import { ask, eventsOf, Refusal } from "./api.js";
import { drawFirsts, drawTokens } from "./charts.js";
import { at, element } from "./dom.js";
import { inFull } from "./numbers.js";

const REQUESTS = 200;
// Seconds between attempts to reach the stream again.
const FIRST_WAIT = 1;
const LONGEST_WAIT = 10;

export class Overview {
  /** onState: told what is known after each event; onProblem: why nothing comes. */
  constructor(onState, onProblem) {
    this.onState = onState;
    this.onProblem = onProblem;
    this.state = null;
    this.attempt = 0;
    this.controller = null;
    this.retry = 0;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.rest() : this.follow()));
  }

  /** Listen to the stream, from now on. */
  async follow() {
    this.rest();
    const controller = (this.controller = new AbortController());
    try {
      const response = await ask("page/events", { signal: controller.signal });
      this.attempt = 0;
      for await (const { name, data } of eventsOf(response)) {
        const told = JSON.parse(data);
        if (told.error) throw new Refusal(401, told.error);
        if (name !== "end") this.take(name, told);
      }
      throw new Error("The stream has ended.");
    } catch (error) {
      if (!controller.signal.aborted) this.lost(error);
    }
  }

  /** Listen no more. */
  rest() {
    clearTimeout(this.retry);
    this.controller?.abort();
    this.controller = null;
  }

  lost(error) {
    this.onProblem(error);
    // With this key it would be the same again.
    if (error instanceof Refusal && [401, 403].includes(error.status)) return;
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.attempt++);
    this.retry = setTimeout(() => this.follow(), wait * 1000);
  }

  take(name, told) {
    const { requests = [], ...sections } = told;
    const former = name === "change" ? this.state : { requests: [] };
    this.state = { ...former, ...sections, requests: [...former.requests, ...requests].slice(-REQUESTS) };
    this.show(sections, requests, name === "snapshot");
    this.onState(this.state);
  }

  show(changed, requests, isAll) {
    at("see-empty").hidden = true;
    at("see-shown").hidden = false;
    if (changed.turns || changed.daemon || changed.server) showTiles(this.state);
    if (changed.daemon) showWorkers(this.state.daemon);
    if (changed.minutes) drawTokens(this.state.minutes, Date.now() / 1000);
    if (changed.accounts) showAccounts(this.state.accounts);
    if (isAll || requests.length) {
      showRequests(requests, isAll);
      drawFirsts(this.state.requests);
    }
  }
}

function showTiles({ turns, daemon, server }) {
  const tiles = [
    ["Daemon", daemon.why === null ? "connected" : "away", daemon.why === null ? "good" : "bad"],
    ["Workers", daemon.isKnown ? daemon.workers.length : "unknown"],
    ["Live turns", turns.live],
    ["Parked turns", turns.parked],
    ["Waiting", turns.queued],
    ["Sessions", turns.sessions],
  ];
  if (server.degraded !== null) tiles.push(["Store", `in memory only: ${server.degraded}`, "bad"]);
  const since = new Date(server.startedAt * 1000).toLocaleString();
  at("see-about").textContent = `openai-server ${server.version}, running since ${since}.`;
  at("tiles").replaceChildren(
    ...tiles.map(([name, value, state]) =>
      element("div", { "data-state": state }, element("dt", {}, name), element("dd", {}, String(value))),
    ),
  );
}

function showWorkers({ workers, isKnown }) {
  const rows = workers.map((worker) => row([worker.name, worker.models.join(", "), worker.tools]));
  const none = isKnown
    ? "No worker is connected to the daemon. Start one with hum on this machine or on another."
    : "The daemon's registry file is not there, so nothing is known of workers.";
  at("workers").replaceChildren(...(rows.length ? rows : [wide(none, 3)]));
}

function showAccounts(accounts) {
  const rows = accounts.map((use) =>
    row([
      use.account === "anonymous" ? "without a key" : use.account,
      inFull(use.turns),
      inFull(use.inputTokens),
      inFull(use.outputTokens),
      use.turns ? clockTime(use.lastAt) : "",
      limitsOf(use.limits),
    ]),
  );
  at("accounts").replaceChildren(...(rows.length ? rows : [wide("No turn has ended since the start.", 6)]));
}

const LIMITS = {
  rpm: "requests a minute",
  tpm: "tokens a minute",
  concurrent: "at a time",
  tokensPerDay: "tokens a day",
  tokensPerMonth: "tokens a month",
};

const limitsOf = (limits) =>
  Object.entries(LIMITS)
    .filter(([name]) => limits[name] !== null)
    .map(([name, what]) => `${inFull(limits[name])} ${what}`)
    .join(", ");

function showRequests(requests, isAll) {
  const table = at("requests");
  const rows = requests.map(requestRow).reverse();
  if (isAll) table.replaceChildren(...(rows.length ? rows : [wide("No request yet.", 8)]));
  else {
    table.querySelector(".none")?.remove();
    table.prepend(...rows);
  }
  while (table.rows.length > REQUESTS) table.lastElementChild.remove();
}

function requestRow(request) {
  const made = row([
    clockTime(request.at),
    `${request.method} ${request.route}`,
    request.model ?? "",
    request.status,
    request.end,
    inSeconds(request.firstTokenSeconds),
    inSeconds(request.seconds),
    request.outputTokens ?? "",
  ]);
  if (request.end !== "ok") made.className = "bad";
  made.title = `${request.requestId} ${request.account}`.trim();
  return made;
}

const row = (cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, String(cell))));
const wide = (text, columns) => element("tr", { class: "none" }, element("td", { colspan: columns }, text));
const inSeconds = (value) => (value === null ? "" : `${value.toFixed(2)} s`);
const clockTime = (at) => new Date(at * 1000).toLocaleTimeString([], { hourCycle: "h23" });
