// The form of a measurement. What is measured on how much are options, as the server says what they are.
import { field, form, select, tick } from "../controls.js";
import { fill, h } from "../dom.js";
import { keep, recall } from "../keep.js";
import { numbersIn } from "../numbers.js";
import { knownOnly, OptionFields } from "../options.js";
/** @import { MeasureForm, Option } from "../../../types/page.d.ts" */
/** @import { MeasurementRequest } from "../../../types/requests.d.ts" */
/** @import { CircuitEntry, OptionField, PromptSet } from "../../../types/views.d.ts" */

/** @type {MeasureForm} */
const START = {
  kind: "evaluate",
  circuits: [],
  prompts: "refusal",
  dials: "0.5, 1",
  against: [],
  given: {},
};
const FIRST = ["prompts", "max_new_tokens"]; // what most people set; the rest is folded away

/** @type {[MeasureForm["kind"], string][]} */
const KINDS = [
  ["evaluate", "Evaluation: answers at each dial"],
  ["frontier", "Frontier: behaviour left against damage"],
];
const DIALS = "\\s*-?[\\d.]+(\\s*,\\s*-?[\\d.]+)*\\s*,?\\s*";

/** @returns {MeasureForm} */
export const readForm = () => ({ ...START, ...recall("measure", {}) });

/** @param {MeasureForm} asked @returns {MeasurementRequest} */
export function askedMeasurement({ kind, circuits, prompts, dials, against, given }) {
  const values = numbersIn(dials) ?? [];
  return { kind, circuits, prompts, against, dials: values.filter((value) => value !== 0), options: given };
}

/**
 * What may be chosen.
 * @typedef {{ circuits: CircuitEntry[], sets: PromptSet[], methods: string[], options: OptionField[] }} Choices
 */

/**
 * Leave out what is no longer there.
 * @param {MeasureForm} values @param {Choices} choices
 */
export function fitForm(values, { circuits, sets, options }) {
  const present = values.circuits.filter((id) => circuits.some((circuit) => circuit.id === id));
  values.circuits = present.length ? present : circuits.slice(0, 1).map(({ id }) => id);
  if (!sets.some((set) => set.id === values.prompts)) {
    values.prompts = "refusal";
  }
  values.given = knownOnly(options, values.given);
}

export class Form {
  /**
   * @param {MeasureForm} values changed in place, and kept
   * @param {Choices} choices
   * @param {() => void} onrun
   */
  constructor(values, choices, onrun) {
    this.values = values;
    this.choices = choices;
    this.startButton = h("button", { type: "submit", class: "primary" }, "Measure");
    this.startButton.disabled = !choices.circuits.length;
    this.element = form("side", onrun);
    this.options = new OptionFields(choices.options, values.given, () => keep("measure", this.values));
    this.draw();
  }

  draw() {
    const { sets } = this.choices;
    const { prompts } = this.values;
    fill(
      this.element,
      h("h1", {}, "Measure"),
      h("p", { class: "faint" }, "What the dial did on held-out prompts, and what it cost."),
      field("What", select(KINDS, this.values.kind, this.#setter("kind"))),
      this.#circuits(),
      field("Prompts, their test split", select(sets.map(setOption), prompts, this.#setter("prompts"))),
      this.#dials(),
      this.options.draw((name) => FIRST.includes(name)),
      this.#more(),
      h("p", { class: "faint" }, "Small numbers are a first look; the interval says how little they prove."),
      h("div", { class: "row" }, this.startButton),
    );
  }

  #circuits() {
    const { circuits } = this.choices;
    const none = h("p", { class: "faint" }, "None yet: ", h("a", { href: "#/discover" }, "discover one"), ".");
    return h(
      "fieldset",
      {},
      h("legend", {}, "Circuits"),
      circuits.length
        ? this.#ticks(
            "circuits",
            circuits.map(({ id, name }) => [id, name]),
          )
        : none,
    );
  }

  #dials() {
    const set = this.#setter("dials");
    const input = h("input", {
      type: "text",
      value: this.values.dials,
      required: true,
      pattern: DIALS,
      onchange: (event) => set(event.currentTarget.value),
    });
    return field("Dials", input, "Numbers between commas; 0 is always measured beside them.");
  }

  #more() {
    const methods = this.#ticks(
      "against",
      this.choices.methods.map((name) => [name, name]),
    );
    return h(
      "details",
      {},
      h("summary", {}, "More measures and other methods"),
      this.options.draw((name) => !FIRST.includes(name)),
      h("fieldset", {}, h("legend", {}, "Against"), methods),
    );
  }

  /** @param {"circuits" | "against"} key @param {Option[]} options */
  #ticks(key, options) {
    const set = this.#setter(key);
    const boxes = options.map(([value, text]) =>
      tick(
        {
          type: "checkbox",
          value,
          checked: this.values[key].includes(value),
          onchange: (event) => {
            const others = this.values[key].filter((other) => other !== value);
            set(event.currentTarget.checked ? [...others, value] : others);
          },
        },
        text,
      ),
    );
    return h("div", { class: "ticks-list" }, boxes);
  }

  /** @param {keyof MeasureForm} key */
  #setter(key) {
    return (/** @type {string | string[]} */ value) => {
      Object.assign(this.values, { [key]: value });
      keep("measure", this.values);
    };
  }
}

/** @param {PromptSet} set @returns {Option} */
const setOption = ({ id, title }) => [id, title || id];
