// An answer as its tokens, each coloured by how its probability moved. Hover, tap, or walk with the arrow keys.
import { fill, h } from "../dom.js";
import { number, within } from "../numbers.js";
import { hideNote, showNote } from "./token-note.js";
/** @import { AnswerEnd, TokenEvent } from "../../../types/views.d.ts" */

const LIMIT = 3; // doublings at which the colour is full
/** @type {Record<string, number>} */
const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -1e6, End: 1e6 };

export class Answer {
  /** @param {"unsteered" | "steered" | "column"} side @param {string} [title] */
  constructor(side, title = side) {
    this.isColumn = side === "column";
    this.text = "";
    /** @type {TokenEvent[]} */
    this.events = [];
    /** @type {HTMLElement[]} */
    this.spans = [];
    this.at = -1; // the token that is marked
    this.body = h("div", {
      class: "answer-text",
      tabindex: "0",
      role: "group",
      "aria-label": `${title}: walk through its tokens with the arrow keys`,
      "aria-describedby": "token-note",
    });
    this.numbers = h("span", { class: "numbers" });
    const head = h("header", {}, h("h3", {}, title), this.numbers);
    this.element = h("section", { class: `answer ${side}`, "aria-label": title }, head, this.body);
    this.#listen();
  }

  /** The divergence so far, in nats per token. */
  get kl() {
    return this.events.at(-1)?.mean ?? null;
  }

  /** Tokens of an earlier run stay, faded, until new ones come: nothing jumps. */
  begin() {
    this.events = [];
    for (const span of this.spans) {
      span.classList.add("stale");
    }
    this.element.dataset.state = "running";
    this.#count();
  }

  /** @param {TokenEvent} token */
  add(token) {
    const place = this.events.length;
    this.events.push(token);
    if (!token.end) {
      const span = this.spans[place] || this.#append();
      span.classList.remove("stale");
      if (span.textContent !== token.text) {
        span.textContent = token.text;
      }
      colour(span, token.p);
    }
    this.#count();
  }

  /** @param {AnswerEnd | null} end how it ended; none where it did not come to its end */
  finish(end) {
    const kept = this.events.filter((token) => !token.end).length;
    for (const span of this.spans.splice(kept)) {
      span.remove();
    }
    this.element.dataset.state = "over";
    this.text = end ? end.text : this.events.map((token) => token.text).join("");
    if (end && end.tokens === 0) {
      this.body.append(h("em", { class: "faint" }, "ended without a word"));
    }
    this.#count(end);
  }

  /** @param {string} text an answer of which only the text is known */
  plain(text) {
    this.text = text;
    fill(this.body, text);
    this.element.dataset.state = "over";
  }

  #append() {
    const span = h("span", { class: "token" });
    this.spans.push(span);
    this.body.append(span);
    return span;
  }

  /** @param {AnswerEnd | null} [end] */
  #count(end) {
    const count = this.events.filter((token) => !token.end).length;
    const isCut = end && !end.finished;
    fill(
      this.numbers,
      h("span", {}, `${count} token${count === 1 ? "" : "s"}`),
      end && this.isColumn
        ? h("span", { title: "KL from the unsteered model, nats per token of this answer" }, `KL ${number(end.kl)}`)
        : null,
      isCut ? h("span", { title: "It reached the longest length" }, "cut off") : null,
    );
  }

  #listen() {
    this.body.addEventListener("pointerover", (event) => this.#point(event.target, false));
    this.body.addEventListener("pointerleave", () => hideNote());
    this.body.addEventListener("click", (event) => this.#point(event.target, true));
    this.body.addEventListener("blur", () => this.#unmark());
    this.body.addEventListener("keydown", (event) => this.#walk(event));
  }

  /** @param {EventTarget | null} target @param {boolean} stays whether the token is marked too */
  #point(target, stays) {
    const span = target instanceof Element ? target.closest(".token") : null;
    const place = this.spans.findIndex((one) => one === span);
    if (span && place >= 0 && this.events[place]) {
      showNote(span, this.events[place]);
      if (stays) {
        this.#mark(place);
      }
    }
  }

  /** @param {number} place */
  #mark(place) {
    this.spans[this.at]?.classList.remove("here");
    this.at = place;
    this.spans[place]?.classList.add("here");
  }

  #unmark() {
    this.#mark(-1);
    hideNote();
  }

  /** @param {KeyboardEvent} event */
  #walk(event) {
    if (event.key === "Escape") {
      this.#unmark();
    }
    if (!(event.key in STEPS) || !this.spans.length) {
      return;
    }
    event.preventDefault();
    const place = within(this.at + STEPS[event.key], 0, this.spans.length - 1);
    this.#mark(place);
    this.spans[place].scrollIntoView({ block: "nearest" });
    if (this.events[place]) {
      showNote(this.spans[place], this.events[place]);
    }
  }
}

/**
 * Probability up or down: two hues that colour-blind eyes tell apart, strength by doublings.
 * @param {HTMLElement} span
 * @param {[number, number]} probabilities
 */
function colour(span, [unsteered, steered]) {
  const doublings = Math.log2(Math.max(steered, 1e-9) / Math.max(unsteered, 1e-9));
  const strength = Math.min(1, Math.abs(doublings) / LIMIT);
  span.style.setProperty("--move", `${Math.round(100 * strength)}%`);
  span.classList.toggle("up", doublings > 0.05);
  span.classList.toggle("down", doublings < -0.05);
}

export function legend() {
  const label = "Colours: blue, steering made the token less likely; orange, more likely; the strongest at eight times";
  return h(
    "div",
    { class: "legend", role: "img", "aria-label": label },
    h("span", {}, "less likely"),
    h("span", { class: "ramp" }),
    h("span", {}, "more likely under steering"),
  );
}
