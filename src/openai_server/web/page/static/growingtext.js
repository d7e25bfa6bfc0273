// A text of a model's that is shown as it comes: plain until what shows Markdown is there.

// Characters that are shown as Markdown; what follows is plain.
const LIMIT = 400_000;

let nodesFrom = (text) => {
  const fragment = document.createDocumentFragment();
  fragment.append(text);
  return fragment;
};

// Most of the page's weight, and not needed to show the page.
const ready = new Promise((resolve) => {
  if (document.readyState === "complete") resolve();
  else addEventListener("load", () => resolve());
})
  // From the address of the page, in which this is.
  .then(() => import("./page/markdown.js"))
  .then((module) => (nodesFrom = module.nodesFrom))
  // The server is gone: then it stays plain.
  .catch(() => {});

/** A text that grows in an element. What is complete of it is not worked out again. */
export class GrowingText {
  constructor(node) {
    this.node = node;
    this.text = "";
    this.settled = 0;
    this.tail = [];
    this.plain = null;
    this.isDue = false;
    this.isFinished = false;
    this.cost = 0;
    this.onShown = () => {};
    const plain = nodesFrom;
    ready.then(() => nodesFrom !== plain && this.showAnew());
  }

  showAnew() {
    if (this.plain !== null) return;
    if (this.isFinished) return this.finish();
    this.node.replaceChildren();
    this.settled = 0;
    this.tail = [];
    this.isDue = true;
    this.show();
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
    this.isFinished = true;
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
