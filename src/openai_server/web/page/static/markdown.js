// Markdown of a model's, shown as it comes. HTML in it is text; nothing in it runs or is fetched.
import { Marked } from "./marked.js";

const TAGS = `a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i li ol p pre s strong table tbody td th thead tr ul`;
// Characters that are shown as Markdown; what follows is plain.
const LIMIT = 400_000;

const escaped = (text) => text.replace(/[&<>"']/g, (each) => `&#${each.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  // None is ever found: tags stay text.
  tokenizer: { html() {}, tag() {} },
  renderer: {
    // A picture would be fetched, and tell its address that it was.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "\u2611 " : "\u2610 "),
    heading({ tokens, depth }) {
      // The page has its own first two levels.
      const level = Math.min(6, depth + 2);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
  },
});

const SANITISING = {
  ALLOWED_TAGS: TAGS.split(" "),
  ALLOWED_ATTR: ["href", "title", "start", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

/** Return Markdown as nodes that are safe to show. */
export function nodesFrom(text) {
  const fragment = DOMPurify.sanitize(marked.parse(text), SANITISING);
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  for (const block of fragment.querySelectorAll("pre, table")) block.tabIndex = 0;
  return fragment;
}

/** A text that grows in an element. What is complete of it is not worked out again. */
export class GrowingText {
  constructor(node) {
    this.node = node;
    this.text = "";
    this.settled = 0;
    this.tail = [];
    this.plain = null;
    this.isDue = false;
    this.cost = 0;
    this.onShown = () => {};
  }

  append(text) {
    this.text += text;
    if (this.isDue) return;
    this.isDue = true;
    // A long block costs much: then it is shown less often.
    if (this.cost > 8) setTimeout(() => this.show(), this.cost * 4);
    else requestAnimationFrame(() => this.show());
  }

  show() {
    if (!this.isDue) return;
    this.isDue = false;
    const begun = performance.now();
    if (this.text.length > LIMIT) this.showPlain();
    else this.showTail();
    this.cost = performance.now() - begun;
    this.onShown();
  }

  showTail() {
    const end = endOfBlocks(this.text, this.settled);
    for (const node of this.tail) node.remove();
    if (end > this.settled) {
      this.node.append(nodesFrom(this.text.slice(this.settled, end)));
      this.settled = end;
    }
    const fragment = nodesFrom(this.text.slice(this.settled));
    this.tail = [...fragment.childNodes];
    this.node.append(fragment);
  }

  showPlain() {
    if (this.plain === null) {
      for (const node of this.tail) node.remove();
      this.plain = document.createTextNode("");
      const rest = document.createElement("pre");
      rest.append(this.plain);
      this.node.append(rest);
    }
    this.plain.appendData(this.text.slice(this.settled));
    this.settled = this.text.length;
  }

  /** Show all of it, as one. */
  finish() {
    this.isDue = false;
    if (this.text.length > LIMIT) this.showPlain();
    else this.node.replaceChildren(nodesFrom(this.text));
    this.onShown();
  }
}

/** Return where the last blank line ends before which all blocks are complete. */
function endOfBlocks(text, start) {
  const fence = /^ {0,3}(?:```|~~~)/gm;
  let end = start;
  let isOpen = false;
  let from = start;
  for (const found of text.slice(start).matchAll(/\n\n+(?=[^\s\-*+\d>])/g)) {
    const place = start + found.index + found[0].length;
    if ((text.slice(from, place).match(fence)?.length ?? 0) % 2) isOpen = !isOpen;
    from = place;
    if (!isOpen) end = place;
  }
  return end;
}
