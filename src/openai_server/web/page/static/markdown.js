// Markdown of a model's, shown as it comes. HTML in it is text; nothing in it runs or is fetched.
import "./purify.js";
import { Marked } from "./marked.js";

const TAGS = `a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i li ol p pre s strong table tbody td th thead tr ul`;
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
