// Pictures that go with the next message: dropped, pasted or picked.
import { at, element } from "./dom.js";

const TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const LARGEST = 5 * 1024 * 1024;
const MOST = 8;

export class Pictures {
  constructor(onProblem) {
    this.onProblem = onProblem;
    this.urls = [];
    at("files").addEventListener("change", () => {
      this.add(at("files").files);
      at("files").value = "";
    });
    const target = at("try");
    target.addEventListener("dragover", (event) => {
      event.preventDefault();
      target.classList.add("dropping");
    });
    for (const name of ["dragleave", "drop"]) {
      target.addEventListener(name, () => target.classList.remove("dropping"));
    }
    target.addEventListener("drop", (event) => {
      event.preventDefault();
      this.add(event.dataTransfer.files);
    });
    at("message").addEventListener("paste", (event) => {
      if (event.clipboardData.files.length) {
        event.preventDefault();
        this.add(event.clipboardData.files);
      }
    });
  }

  async add(files) {
    this.onProblem("");
    for (const file of files) {
      if (!TYPES.includes(file.type)) this.onProblem(`${file.name} is no PNG, JPEG, GIF or WebP picture.`);
      else if (file.size > LARGEST) this.onProblem(`${file.name} is larger than 5 MB.`);
      else if (this.urls.length >= MOST) this.onProblem(`More than ${MOST} pictures do not go with one message.`);
      else {
        this.urls.push(await dataURL(file));
        this.show();
      }
    }
  }

  /** Return the addresses of all, and have none any more. */
  take() {
    const urls = this.urls;
    this.urls = [];
    this.show();
    return urls;
  }

  show() {
    at("pictures").replaceChildren(
      ...this.urls.map((url, place) => {
        const remove = element("button", { type: "button", "aria-label": `Remove picture ${place + 1}` }, "\u00d7");
        remove.addEventListener("click", () => {
          this.urls.splice(place, 1);
          this.show();
          at("message").focus();
        });
        return element("li", {}, element("img", { src: url, alt: `Picture ${place + 1}` }), remove);
      }),
    );
  }
}

function dataURL(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
