// Where a prompt is written, sent and stopped.
import { button, form, glyphs } from "../controls.js";
import { h, svg } from "../dom.js";
import { legend } from "./answer.js";

const HIGHEST = 200; // pixels

export class Composer {
  /** @param {{ onsend: () => void, onstop: () => void, onreset: () => void }} doings */
  constructor({ onsend, onstop, onreset }) {
    this.input = h("textarea", {
      id: "prompt",
      rows: 1,
      placeholder: "Ask both sides …",
      "aria-label": "Prompt",
      maxlength: 20000,
      enterkeyhint: "send",
    });
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        onsend();
      }
    });
    this.input.addEventListener("input", () => this.#grow());
    const sending = { type: "submit", class: "primary", id: "send", "aria-label": "Send" };
    const stopping = { type: "button", class: "danger", id: "stop", hidden: true, onclick: onstop };
    this.stopButton = h("button", stopping, svg(glyphs.stop), "Stop");
    this.element = form(
      "composer",
      onsend,
      h("div", { class: "row" }, this.input, this.stopButton, h("button", sending, svg(glyphs.send))),
      h(
        "div",
        { class: "row spread faint under" },
        legend(),
        button("New chat", onreset, { class: "link", id: "new-chat" }),
      ),
    );
  }

  /** The prompt without spaces around it. */
  get text() {
    return this.input.value.trim();
  }

  /** @param {string} text */
  write(text) {
    this.input.value = text;
    this.#grow();
  }

  /** @param {boolean} isBusy */
  show(isBusy) {
    this.stopButton.hidden = !isBusy;
  }

  #grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(HIGHEST, this.input.scrollHeight + 2)}px`;
  }
}
