// The second part of the form: the method and its options. Choices stand as data; the functions only lay them out.
import { field, select, tick } from "../controls.js";
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { grouped } from "../numbers.js";
import { defaultName } from "./form.js";
/** @import { DiscoverChoices, DiscoverForm } from "../../../types/page.d.ts" */

/** @type {DiscoverChoices} */
const CHOICES = {
  method: [
    ["cna", "CNA: activations that differ (fast)"],
    ["dose", "Dose: effect against cost, within a budget"],
    ["cna-reference", "CNA as its public code does it"],
  ],
  size: [
    ["fraction", "a share of all"],
    ["count", "a number"],
  ],
  direction: [
    ["remove", "remove"],
    ["induce", "induce"],
  ],
  margin: [
    ["", "as the prompts say"],
    ["alternatives", "how answers without it begin"],
    ["openers", "how answers with it begin"],
    ["answer", "the answers in the prompt file"],
    ["own-answers", "its answers to the other prompts"],
  ],
  dose_sign: [
    ["", "up, or both: what goes further"],
    ["positive", "those that hold it up"],
    ["both", "those that hold it up or down"],
    ["negative", "those that hold it down"],
  ],
  broken: [
    ["", "not looked at"],
    ["0", "no more than now"],
    ["0.05", "up to 5 % more"],
    ["0.1", "up to 10 % more"],
  ],
  score: [
    ["", "delta (the paper)"],
    ["standardised", "standardised"],
    ["auroc", "AUROC"],
  ],
  sign: [
    ["", "both (the paper)"],
    ["positive", "positive"],
    ["negative", "negative"],
  ],
  position: [
    ["last", "last token (the paper)"],
    ["post-instruction", "mean after the instruction"],
  ],
};
const REFERENCE = "1600 neurons, layers 0 and 1 left out, no universal filter, means rounded to bfloat16.";
const TWINS = "For prompts in pairs: the same request with the behaviour and without. Take about 1 % of the neurons.";
const BROKEN = "The model answers the development prompts; loops and gibberish count. Takes longer.";

export class Options {
  /**
   * @param {DiscoverForm} form
   * @param {number} neurons of the model
   * @param {{ set: (key: string, value: string | number | boolean) => void, check: () => void }} doings
   */
  constructor(form, neurons, doings) {
    this.form = form;
    this.neurons = neurons;
    this.doings = doings;
    this.details = h("details");
    this.size = h("small", { class: "faint" });
    this.element = h("div");
  }

  draw() {
    const { method } = this.form;
    this.size = h("small", { class: "faint" });
    this.details = this.#more();
    fill(
      this.element,
      this.#choice("Method", "method"),
      method === "cna-reference" ? h("small", { class: "faint" }, REFERENCE) : [this.#sizeFields(), this.size],
      method === "dose" ? this.#budgetFields() : null,
      this.details,
    );
    this.#drawSize();
  }

  #more() {
    const { method, system, name } = this.form;
    return h(
      "details",
      { open: this.details.open }, // what was opened stays open
      h("summary", {}, "More options"),
      method === "dose" ? this.#doseFields() : null,
      method === "cna" ? this.#cnaFields() : null,
      field("System prompt", h("textarea", { rows: 2, value: system, onchange: this.#text("system") })),
      field(
        "Name",
        h("input", {
          type: "text",
          maxlength: 60,
          value: name,
          placeholder: defaultName(this.form),
          onchange: this.#text("name"),
        }),
      ),
    );
  }

  #sizeFields() {
    const isFraction = this.form.size === "fraction";
    const amount = isFraction
      ? field("Share", this.#number("fraction", { min: 0.00001, max: 1, step: "any" }))
      : field("Number", this.#number("count", { min: 1, max: this.neurons, step: 1 }));
    return h("div", { class: "row pair" }, this.#choice("How many neurons", "size"), amount);
  }

  #budgetFields() {
    const budget = this.#number("budget", { min: 0.0001, max: 100, step: "any" });
    return h(
      "div",
      { class: "row pair" },
      field("Budget, nats per token", budget),
      this.#choice("Direction", "direction"),
    );
  }

  #doseFields() {
    const { margin, broken } = this.form;
    const largest = this.#number("x_max", { min: 0.1, max: 100, step: "any" });
    return [
      this.#choice("What is pushed", "margin", margin === "own-answers" ? TWINS : null),
      this.#choice("Neurons that take part", "dose_sign"),
      this.#choice("Broken answers", "broken", broken ? BROKEN : null),
      field("Largest dose", largest, "Past 1 a neuron's sign is turned."),
    ];
  }

  #cnaFields() {
    const universal = tick(
      {
        type: "checkbox",
        checked: this.form.universal,
        onchange: (event) => this.doings.set("universal", event.currentTarget.checked),
      },
      "Leave universal neurons out",
      explain("universal"),
    );
    return [
      this.#choice("Score", "score"),
      this.#choice("Sign", "sign"),
      this.#choice("Position that is read", "position"),
      universal,
    ];
  }

  /** @param {string} label @param {keyof DiscoverChoices} key @param {string | null} [help] */
  #choice(label, key, help) {
    const choose = (/** @type {string} */ value) => {
      this.doings.set(key, value);
      this.draw();
      if (key === "position") {
        this.doings.check();
      }
    };
    return field(label, select(CHOICES[key], String(this.form[key]), choose), help);
  }

  /** @param {string} key @param {Record<string, string | number>} bounds */
  #number(key, bounds) {
    return h("input", {
      type: "number",
      value: this.form[key],
      required: true,
      ...bounds,
      onchange: (event) => {
        if (event.currentTarget.value !== "") {
          this.doings.set(key, event.currentTarget.valueAsNumber);
        }
        this.#drawSize();
      },
    });
  }

  /** @param {string} key */
  #text(key) {
    return (/** @type {{ currentTarget: HTMLInputElement | HTMLTextAreaElement }} */ event) =>
      this.doings.set(key, event.currentTarget.value);
  }

  #drawSize() {
    const { size, fraction, count } = this.form;
    const part =
      size === "fraction"
        ? Math.max(1, Math.round(fraction * this.neurons))
        : `${((100 * count) / this.neurons).toFixed(3)} %`;
    this.size.textContent = `${part} of ${grouped(this.neurons)} neurons`;
  }
}
