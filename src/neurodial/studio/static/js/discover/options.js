// The second part of the form: the method and its options, as the server says what they are.
import { field, select } from "../controls.js";
import { fill, h } from "../dom.js";
import { grouped } from "../numbers.js";
import { OptionFields } from "../options.js";
import { defaultName, givenOf } from "./form.js";
/** @import { DiscoverForm, Option } from "../../../types/page.d.ts" */
/** @import { MethodForm } from "../../../types/views.d.ts" */

const FIRST = ["select", "budget", "direction"]; // what most people set; the rest is folded away
const READ = ["position", "system"]; // what changes how the prompts are read

export class Options {
  /**
   * @param {DiscoverForm} form
   * @param {MethodForm[]} methods
   * @param {number} neurons of the model
   * @param {{ changed: () => void, check: () => void }} doings
   */
  constructor(form, methods, neurons, doings) {
    this.form = form;
    this.methods = methods;
    this.neurons = neurons;
    this.doings = doings;
    this.details = h("details");
    this.size = h("small", { class: "faint" });
    this.element = h("div");
    this.fields = this.#fields();
  }

  /** The method that is chosen. */
  get method() {
    return this.methods.find(({ name }) => name === this.form.method) || this.methods[0];
  }

  draw() {
    this.fields = this.#fields();
    this.details = this.#more();
    fill(
      this.element,
      field(
        "Method",
        select(this.methods.map(methodOption), this.form.method, (name) => this.#choose(name)),
        this.method.title,
      ),
      this.fields.draw((name) => FIRST.includes(name)),
      this.size,
      this.details,
    );
    this.#drawSize();
  }

  #fields() {
    return new OptionFields(this.method.options, givenOf(this.form), (name) => {
      this.doings.changed();
      this.#drawSize();
      if (READ.includes(name)) {
        this.doings.check();
      }
    });
  }

  /** @param {string} name */
  #choose(name) {
    Object.assign(this.form, { method: name });
    this.doings.changed();
    this.draw();
    this.doings.check();
  }

  #more() {
    const name = h("input", {
      type: "text",
      maxlength: 60,
      value: this.form.name,
      placeholder: defaultName(this.form),
    });
    name.addEventListener("change", () => {
      this.form.name = name.value;
      this.doings.changed();
    });
    return h(
      "details",
      { open: this.details.open }, // what was opened stays open
      h("summary", {}, "More options"),
      this.fields.draw((option) => !FIRST.includes(option)),
      field("Name", name),
    );
  }

  /** How many neurons a fraction or a count comes to. */
  #drawSize() {
    const [rule, value] = this.fields.text("select").split(":");
    const all = `of ${grouped(this.neurons)} neurons`;
    if (rule === "fraction") {
      this.size.textContent = `${Math.max(1, Math.round(Number(value) * this.neurons))} ${all}`;
    } else if (rule === "count") {
      this.size.textContent = `${((100 * Number(value)) / this.neurons).toFixed(3)} % ${all}`;
    } else {
      this.size.textContent = "";
    }
  }
}

/** @param {MethodForm} method @returns {Option} */
const methodOption = ({ name }) => [name, name];
