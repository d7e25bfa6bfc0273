// How messages look in the conversation.
import { at, element } from "./dom.js";
import { GrowingText } from "./growingtext.js";

// Messages that are in the document at once; the others come on demand.
const SHOWN = 200;
// Pixels from the end within which a reader counts as being there.
const NEAR = 80;

/** The messages, of which the last ones are in the document. */
export class Conversation {
  constructor() {
    this.log = at("log");
    this.nodes = [];
    this.first = 0;
    this.isAtEnd = true;
    this.isMoving = false;
    this.log.addEventListener("scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.log;
      this.isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR;
    }, { passive: true });
    at("earlier").addEventListener("click", () => this.showEarlier());
  }

  add(node) {
    at("welcome").hidden = true;
    this.nodes.push(node);
    this.log.append(node);
    // A reader who has gone up keeps what is seen there.
    while (this.isAtEnd && this.nodes.length - this.first > SHOWN) this.nodes[this.first++].remove();
    at("earlier").hidden = this.first === 0;
    this.toEnd();
  }

  /** Put another message, or none, in the place of one. */
  replace(node, ...others) {
    this.nodes.splice(this.nodes.indexOf(node), 1, ...others);
    node.replaceWith(...others);
    this.toEnd();
  }

  /** Show the end, if the reader was there before. */
  toEnd(always = false) {
    if (always) this.isAtEnd = true;
    if (!this.isAtEnd || this.isMoving) return;
    this.isMoving = true;
    requestAnimationFrame(() => {
      this.isMoving = false;
      if (this.isAtEnd) this.log.scrollTop = this.log.scrollHeight;
    });
  }

  showEarlier() {
    const former = this.nodes[this.first];
    const from = Math.max(0, this.first - SHOWN);
    former.before(...this.nodes.slice(from, this.first));
    this.first = from;
    at("earlier").hidden = from === 0;
    this.isAtEnd = false;
    former.scrollIntoView();
    if (from === 0) this.log.focus({ preventScroll: true });
  }

  clear() {
    for (const node of this.nodes) node.remove();
    this.nodes = [];
    this.first = 0;
    this.isAtEnd = true;
    at("earlier").hidden = true;
    at("welcome").hidden = false;
  }
}

/** Return a message of the user's: its text as it is, and its pictures. */
export function userMessage(text, urls) {
  const pictures = urls.map((url, place) => element("img", { src: url, alt: `Picture ${place + 1}` }));
  return element(
    "article",
    { class: "message user", "aria-label": "You" },
    ...(text ? [element("p", { class: "verbatim" }, text)] : []),
    ...(pictures.length ? [element("div", { class: "pictures" }, ...pictures)] : []),
  );
}

/** Return calls with the results that they were given. */
export function answeredCalls(calls, results) {
  return element(
    "article",
    { class: "message calls", "aria-label": "Tool calls with their results" },
    ...calls.flatMap((call, place) => [
      ...shownCall(call),
      element("p", { class: "by" }, "Result"),
      element("pre", { tabindex: "0" }, results[place]),
    ]),
  );
}

/** An answer of a model's, as it comes. */
export class AnswerView {
  constructor(model, onShown) {
    this.body = element("div", { class: "markdown" });
    this.wait = element("p", { class: "wait" }, element("span", { class: "unseen" }, "The model is at work"));
    this.about = element("p", { class: "about" });
    this.node = element(
      "article",
      { class: "message answer", "aria-label": `Answer of ${model}`, "aria-busy": "true" },
      element("p", { class: "by" }, model),
      this.body,
      this.wait,
      this.about,
    );
    this.text = new GrowingText(this.body);
    this.text.onShown = onShown;
    this.thoughts = null;
    this.onShown = onShown;
  }

  addText(text) {
    this.wait.hidden = true;
    this.text.append(text);
  }

  addReasoning(text) {
    if (this.thoughts === null) {
      this.thoughts = document.createTextNode("");
      const shown = element("pre", { tabindex: "0" });
      shown.append(this.thoughts);
      this.body.before(element("details", { class: "reasoning" }, element("summary", {}, "Reasoning"), shown));
    }
    this.thoughts.appendData(text);
    this.onShown();
  }

  /** No more text comes; say in a few words what there is to say of it. */
  finish(about) {
    this.wait.remove();
    if (this.text.text) this.text.finish();
    this.about.textContent = about;
    this.node.removeAttribute("aria-busy");
    this.onShown();
  }
}

const shownCall = (call) => [
  element("p", { class: "by" }, "The model calls ", element("strong", {}, call.function.name)),
  element("pre", { tabindex: "0" }, prettyJSON(call.function.arguments)),
];

/** Return a form for the results of calls; they are given as a list, in order. */
export function callForm(calls, onResults) {
  const inputs = calls.map((call) => {
    const id = `result-${call.id}`;
    return element("textarea", { id, rows: "2", required: true, class: "code", spellcheck: "false" });
  });
  const form = element(
    "form",
    { class: "message calls", "aria-label": "Tool calls" },
    ...inputs.flatMap((input, place) => [
      ...shownCall(calls[place]),
      element("label", { for: input.id }, `Result of ${calls[place].function.name}`),
      input,
    ]),
    element("button", { type: "submit", class: "primary" }, inputs.length > 1 ? "Send the results" : "Send the result"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onResults(inputs.map((input) => input.value));
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  return form;
}

/** Return a message of the page's own, with something to do about it. */
export function problemMessage(text, label, onAction) {
  const retry = element("button", { type: "button" }, label);
  retry.addEventListener("click", onAction);
  return element("div", { class: "message failed", role: "alert" }, element("p", {}, text), retry);
}

function prettyJSON(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
