// The conversation with a model: what is asked, what comes, and what follows from it.
import { ask, eventsOf, Refusal, storedKey } from "./api.js";
import { showCode } from "./code.js";
import { at } from "./dom.js";
import { answeredCalls, AnswerView, callForm, Conversation, problemMessage, userMessage } from "./messages.js";
import { Pictures } from "./pictures.js";

const EXAMPLE = [
  {
    type: "function",
    function: {
      name: "get_weather",
      description: "The weather in a city, now.",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];

export class Chat {
  /** onRefusal: told of each error of the server's. */
  constructor(onRefusal) {
    this.onRefusal = onRefusal;
    this.messages = [];
    this.shown = new Conversation();
    this.pictures = new Pictures((problem) => this.say(problem));
    this.running = null;
    this.calls = null;
    at("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    at("message").addEventListener("keydown", (event) => this.keyPressed(event));
    at("message").addEventListener("input", fitMessage);
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.stop());
    at("stop").addEventListener("click", () => this.stop());
    at("clear").addEventListener("click", () => this.clear());
    at("example").addEventListener("click", () => {
      at("tools").value = JSON.stringify(EXAMPLE, null, 2);
      at("tools-problem").textContent = "";
    });
  }

  /** Offer these models, and keep the one that is chosen. */
  offer(models) {
    const select = at("model");
    const chosen = select.value;
    const isSame = models.length === select.options.length && models.every((id, at) => select.options[at].value === id);
    if (isSame) return;
    select.replaceChildren(...models.map((id) => new Option(id, id)));
    if (models.includes(chosen)) select.value = chosen;
  }

  keyPressed(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.send();
    }
  }

  say(problem) {
    at("composer-problem").textContent = problem;
  }

  send() {
    const text = at("message").value.trim();
    if (this.running !== null) return;
    this.say("");
    if (this.calls !== null) return this.say("The model waits for the result of its call, above.");
    if (!at("model").value) return this.say("There is no model: none is connected to the daemon yet.");
    if (!text && !this.pictures.urls.length) return;
    if (this.tools() === null) return;
    const urls = this.pictures.take();
    this.add({ role: "user", content: contentOf(text, urls) });
    at("message").value = "";
    at("options").open = false;
    fitMessage();
    this.run();
  }

  /** Note a message, and show it. */
  add(message) {
    this.messages.push(message);
    const parts = Array.isArray(message.content) ? message.content : [{ type: "text", text: message.content ?? "" }];
    const text = parts.map((part) => part.text ?? "").join("");
    if (message.role === "user") {
      const urls = parts.flatMap((part) => (part.image_url ? [part.image_url.url] : []));
      this.shown.add(userMessage(text, urls));
    } else if (message.role === "assistant") {
      const view = new AnswerView(at("model").value, () => {});
      if (text) view.addText(text);
      view.finish("");
      this.shown.add(view.node);
    }
    this.shown.toEnd(message.role === "user");
  }

  /** Return the tools that are offered, none as undefined; null where they cannot be read. */
  tools() {
    const problem = at("tools-problem");
    const text = at("tools").value.trim();
    problem.textContent = "";
    at("tools").removeAttribute("aria-invalid");
    if (!text) return undefined;
    try {
      const tools = JSON.parse(text);
      if (!Array.isArray(tools)) throw new Error("a list was expected");
      return tools.length ? tools : undefined;
    } catch (error) {
      problem.textContent = `The tools are not a JSON list: ${error.message}.`;
      at("tools").setAttribute("aria-invalid", "true");
      at("options").open = true;
      at("tools").focus();
      return null;
    }
  }

  request() {
    const instructions = at("instructions").value.trim();
    const first = instructions ? [{ role: "system", content: instructions }] : [];
    const tools = this.tools() ?? undefined;
    return {
      model: at("model").value,
      messages: [...first, ...this.messages],
      ...(tools ? { tools } : {}),
      stream: true,
      stream_options: { include_usage: true },
    };
  }

  /** Ask the model with all that was said. */
  async run() {
    const request = this.request();
    const { messages } = this;
    const controller = new AbortController();
    this.setRunning(controller);
    showCode(request, storedKey() !== "");
    const view = new AnswerView(request.model, () => this.shown.toEnd());
    const answer = new Answer(view);
    this.shown.add(view.node);
    this.shown.toEnd(true);
    const begun = performance.now();
    let problem = null;
    try {
      const body = JSON.stringify(request);
      await answer.read(await ask("v1/chat/completions", { body, signal: controller.signal }));
    } catch (error) {
      if (!controller.signal.aborted) problem = error;
    }
    view.finish(answer.about(performance.now() - begun, controller.signal.aborted));
    this.setRunning(null);
    // A new chat has begun.
    if (this.messages !== messages) return;
    if (problem !== null) this.failed(problem, view, answer);
    else this.answered(answer, controller.signal.aborted);
  }

  answered(answer, wasStopped) {
    const calls = wasStopped ? [] : answer.calls;
    const text = answer.view.text.text;
    if (text || calls.length) {
      this.messages.push({ role: "assistant", content: text || null, ...(calls.length ? { tool_calls: calls } : {}) });
    }
    if (calls.length) this.answerCalls(calls);
    else at("message").focus({ preventScroll: true });
  }

  answerCalls(calls) {
    const form = callForm(calls, (results) => {
      this.shown.replace(form, answeredCalls(calls, results));
      this.calls = null;
      this.say("");
      calls.forEach((call, place) => {
        this.messages.push({ role: "tool", tool_call_id: call.id, content: results[place] });
      });
      this.run();
    });
    this.calls = calls;
    this.shown.add(form);
    form.querySelector("textarea").focus();
  }

  failed(error, view, answer) {
    if (!answer.view.text.text) this.shown.replace(view.node);
    const lost = error instanceof TypeError ? "The server could not be reached. " : "";
    const node = problemMessage(lost + error.message, "Try again", () => {
      if (this.running !== null) return;
      this.shown.replace(node);
      this.run();
    });
    this.shown.add(node);
    if (error instanceof Refusal) this.onRefusal(error);
  }

  stop() {
    this.running?.abort();
  }

  clear() {
    this.stop();
    this.messages = [];
    this.calls = null;
    this.shown.clear();
    this.say("");
    at("message").focus();
  }

  setRunning(controller) {
    this.running = controller;
    at("stop").hidden = controller === null;
    at("send").hidden = controller !== null;
  }
}

/** What comes of one request. */
class Answer {
  constructor(view) {
    this.view = view;
    this.calls = [];
    this.usage = null;
    this.firstAt = null;
    this.begun = performance.now();
  }

  async read(response) {
    let isComplete = false;
    try {
      for await (const { data } of eventsOf(response)) {
        if (data === "[DONE]") isComplete = true;
        else this.take(JSON.parse(data));
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
    if (!isComplete) throw new Error("The answer was cut before its end.");
  }

  take(chunk) {
    if (chunk.error) throw new Refusal(200, chunk.error);
    if (chunk.usage) this.usage = chunk.usage;
    const delta = chunk.choices?.[0]?.delta;
    if (!delta) return;
    const reasoning = delta.reasoning_content ?? delta.reasoning;
    if ((reasoning || delta.content || delta.tool_calls) && this.firstAt === null) this.firstAt = performance.now();
    if (reasoning) this.view.addReasoning(reasoning);
    if (delta.content) this.view.addText(delta.content);
    for (const piece of delta.tool_calls ?? []) this.takeCall(piece);
  }

  takeCall({ index = 0, id, function: told = {} }) {
    const call = (this.calls[index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
    if (id) call.id = id;
    call.function.name += told.name ?? "";
    call.function.arguments += told.arguments ?? "";
  }

  about(milliseconds, wasStopped) {
    const said = wasStopped ? ["stopped"] : [];
    if (this.firstAt !== null) said.push(`first token after ${seconds(this.firstAt - this.begun)}`);
    said.push(`${seconds(milliseconds)} in all`);
    if (this.usage) said.push(`${this.usage.prompt_tokens} tokens in, ${this.usage.completion_tokens} out`);
    return said.join(" \u00b7 ");
  }
}

const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(2)} s`;

function contentOf(text, urls) {
  if (!urls.length) return text;
  const pictures = urls.map((url) => ({ type: "image_url", image_url: { url } }));
  return text ? [{ type: "text", text }, ...pictures] : pictures;
}

function fitMessage() {
  const field = at("message");
  field.rows = Math.min(8, field.value.split("\n").length);
}
