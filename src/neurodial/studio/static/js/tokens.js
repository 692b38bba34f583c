// An answer as its tokens, each coloured by how its probability moved. Hover, tap, or walk with the arrow keys.
import { fill, h, number, percent } from "./dom.js";

const LIMIT = 3; // doublings at which the colour is full

export const visible = (text) => text.replaceAll("\n", "↵").replaceAll(" ", "·") || "∅";

export class Answer {
  constructor(side, label) {
    this.side = side;
    this.events = [];
    this.spans = [];
    this.at = -1;
    this.body = h("div", {
      class: "answer-text",
      tabindex: "0",
      role: "group",
      "aria-label": `${label}: walk through its tokens with the arrow keys`,
      "aria-describedby": "token-note",
    });
    this.numbers = h("span", { class: "numbers" });
    this.element = h(
      "section",
      { class: `answer ${side}`, "aria-label": label },
      h("header", {}, h("h3", {}, label), this.numbers),
      this.body,
    );
    this.body.addEventListener("pointerover", (event) => this.#point(event.target, false));
    this.body.addEventListener("pointerleave", () => hideNote());
    this.body.addEventListener("click", (event) => this.#point(event.target, true));
    this.body.addEventListener("blur", () => {
      this.#mark(-1);
      hideNote();
    });
    this.body.addEventListener("keydown", (event) => this.#walk(event));
  }

  // Tokens of an earlier run stay, faded, until new ones come: nothing jumps.
  begin() {
    this.events = [];
    for (const span of this.spans) span.classList.add("stale");
    this.element.dataset.state = "running";
    this.#say();
  }

  add(event) {
    const place = this.events.length;
    this.events.push(event);
    if (event.end) {
      this.#say(event);
      return;
    }
    let span = this.spans[place];
    if (!span) {
      span = h("span", { class: "token" });
      this.spans.push(span);
      this.body.append(span);
    }
    span.classList.remove("stale");
    if (span.textContent !== event.text) span.textContent = event.text;
    colour(span, event.p);
    this.#say(event);
  }

  finish(end) {
    const kept = this.events.filter((event) => !event.end).length;
    for (const span of this.spans.splice(kept)) span.remove();
    this.element.dataset.state = "over";
    this.text = end ? end.text : this.events.map((event) => event.text).join("");
    if (end && end.tokens === 0) this.body.append(h("em", { class: "faint" }, "ended without a word"));
    this.#say(this.events.at(-1), end);
  }

  plain(text) {
    // an answer of which only the text is known
    this.text = text;
    fill(this.body, text);
    this.element.dataset.state = "over";
  }

  #say(event, end) {
    const count = this.events.filter((one) => !one.end).length;
    fill(
      this.numbers,
      h("span", {}, `${count} token${count === 1 ? "" : "s"}`),
      end && !end.finished ? h("span", { title: "It reached the longest length" }, "cut off") : null,
    );
  }

  get kl() {
    return this.events.length ? this.events.at(-1).mean : null;
  }

  #point(target, stays) {
    const place = this.spans.indexOf(target.closest(".token"));
    if (place >= 0 && this.events[place]) {
      showNote(target, this.events[place], this.side);
      if (stays) this.#mark(place);
    }
  }

  #mark(place) {
    if (this.spans[this.at]) this.spans[this.at].classList.remove("here");
    this.at = place;
    if (this.spans[place]) this.spans[place].classList.add("here");
  }

  #walk(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -1e6, End: 1e6 };
    if (event.key === "Escape") {
      this.#mark(-1);
      hideNote();
      return;
    }
    if (!(event.key in steps) || !this.spans.length) return;
    event.preventDefault();
    const place = Math.max(0, Math.min(this.spans.length - 1, this.at + steps[event.key]));
    this.#mark(place);
    this.spans[place].scrollIntoView({ block: "nearest" });
    if (this.events[place]) showNote(this.spans[place], this.events[place], this.side);
  }
}

// Probability up or down: two hues that colour-blind eyes tell apart, strength by doublings.
export function colour(span, [unsteered, steered]) {
  const doublings = Math.log2(Math.max(steered, 1e-9) / Math.max(unsteered, 1e-9));
  const strength = Math.min(1, Math.abs(doublings) / LIMIT);
  span.style.setProperty("--move", `${Math.round(100 * strength)}%`);
  span.classList.toggle("up", doublings > 0.05);
  span.classList.toggle("down", doublings < -0.05);
}

const note = h("div", { id: "token-note", role: "tooltip", hidden: true });
document.body.append(note);

function showNote(target, event, side) {
  const [p, q] = event.p;
  const factor = q / Math.max(p, 1e-12);
  const ratio = factor >= 1 ? `× ${number(factor, 2)}` : `÷ ${number(1 / Math.max(factor, 1e-12), 2)}`;
  const same = event.text.trim();
  fill(
    note,
    h("p", { class: "row spread" }, h("code", {}, visible(event.text)), h("span", {}, ratio)),
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "token here"),
          h("th", { scope: "col" }, "unsteered"),
          h("th", { scope: "col" }, "steered"),
        ),
      ),
      h(
        "tbody",
        {},
        event.top.map(([text, a, b]) =>
          h(
            "tr",
            { class: text.trim() === same ? "chosen" : "" },
            h("th", { scope: "row" }, h("code", {}, visible(text))),
            bar(a, "unsteered"),
            bar(b, "steered"),
          ),
        ),
      ),
    ),
    h(
      "p",
      { class: "faint" },
      `KL here ${number(event.kl)} nats · so far ${number(event.mean)} per token of the ${side} answer`,
    ),
  );
  note.hidden = false;
  const box = target.getBoundingClientRect();
  const size = note.getBoundingClientRect();
  const left = Math.max(8, Math.min(innerWidth - size.width - 8, box.left));
  const above = box.top - size.height - 8;
  note.style.left = `${left + scrollX}px`;
  note.style.top = `${(above > 8 ? above : box.bottom + 8) + scrollY}px`;
}

function bar(share, side) {
  return h("td", {}, h("span", { class: `share ${side}`, style: { "--share": `${100 * share}%` } }, percent(share)));
}

export function hideNote() {
  note.hidden = true;
}

export function legend() {
  return h(
    "div",
    {
      class: "legend",
      role: "img",
      "aria-label":
        "Colours: blue, steering made the token less likely; orange, more likely; the strongest at eight times",
    },
    h("span", {}, "less likely"),
    h("span", { class: "ramp" }),
    h("span", {}, "more likely under steering"),
  );
}
