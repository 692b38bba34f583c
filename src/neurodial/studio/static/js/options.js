// Fields of options, drawn from what the server says of each: no option is named here, so a new one needs nothing here.
import { field, select, tick } from "./controls.js";
import { append, fill, h } from "./dom.js";
import { explain } from "./explain.js";
/** @import { Child, Given, GivenValue, Option } from "../../types/page.d.ts" */
/** @import { OptionField } from "../../types/views.d.ts" */

const NONE = "none";
const NUMBER = "-?(\\d+\\.?\\d*|\\.\\d+)(e-?\\d+)?";

/** What an option is: what was given, else the default, as a user would type it. */
export class OptionFields {
  /**
   * @param {OptionField[]} options
   * @param {Given} given what differs from the defaults, changed in place
   * @param {(name: string) => void} onchange
   */
  constructor(options, given, onchange) {
    this.options = options;
    this.given = given;
    this.onchange = onchange;
  }

  /**
   * The fields of some options, in the options' own order.
   * @param {(name: string) => boolean} wanted
   */
  draw(wanted) {
    return this.options.filter(({ name }) => wanted(name)).map((option) => this.#field(option));
  }

  /** What an option is, as text. @param {string} name */
  text(name) {
    const option = this.options.find((other) => other.name === name);
    return option ? textOf(option, this.given) : "";
  }

  /** @param {OptionField} option @param {string} text */
  #set(option, text) {
    setOption(option, text, this.given);
    this.onchange(option.name);
  }

  /** @param {OptionField} option */
  #field(option) {
    const { label, help, kind, forms, choices } = option;
    const words = explain(option.name, [label, help]);
    if (kind === "bool") {
      const checked = textOf(option, this.given) === "True";
      const change = (/** @type {boolean} */ on) => this.#set(option, flag(on));
      return tick({ type: "checkbox", checked, onchange: (e) => change(e.currentTarget.checked) }, label, words);
    }
    if (choices.length && option.list) {
      return h("fieldset", {}, h("legend", {}, label, words), this.#ticks(option));
    }
    if (forms.length) {
      return h("fieldset", {}, h("legend", {}, label, words), this.#formed(option));
    }
    return explained(field(label, this.#input(option)), words);
  }

  /** One input: a menu, a number or a text. @param {OptionField} option */
  #input(option) {
    const { kind, optional, choices } = option;
    const text = textOf(option, this.given);
    if (choices.length) {
      const all = optional ? [...choices, NONE] : choices;
      return select(all.map(plain), text, (value) => this.#set(option, value));
    }
    if (kind === "str" && !option.list) {
      const value = text === NONE ? "" : text;
      return h("textarea", { rows: 2, value, onchange: (e) => this.#set(option, e.currentTarget.value) });
    }
    const input = h("input", { type: "text", inputmode: "decimal", value: text, pattern: patternOf(option) });
    input.addEventListener("change", () => {
      if (input.checkValidity()) {
        this.#set(option, input.value);
        input.value = textOf(option, this.given); // emptied: the default again
      }
    });
    return input;
  }

  /** A value that is spelled: a menu of its forms, and the form's value beside it. @param {OptionField} option */
  #formed(option) {
    const box = h("div");
    const draw = () => {
      const [name, value] = textOf(option, this.given).split(":");
      const form = option.forms.find((other) => other.name === name) || option.forms[0];
      const label = `Value of ${option.label}`;
      const number = h("input", { type: "number", step: form.kind === "int" ? 1 : "any", value, "aria-label": label });
      number.addEventListener("change", () => {
        this.#set(option, number.value === "" ? "" : `${form.name}:${number.value}`);
        draw();
      });
      const menu = select(option.forms.map(formOption), form.name, (chosen) => {
        const next = option.forms.find((other) => other.name === chosen) || form;
        this.#set(option, next.kind === null ? next.name : `${next.name}:${next.example}`);
        draw();
      });
      menu.setAttribute("aria-label", option.label);
      fill(
        box,
        h("div", { class: "row pair" }, menu, form.kind === null ? null : number),
        h("small", {}, form.meaning),
      );
    };
    draw();
    return box;
  }

  /** @param {OptionField} option */
  #ticks(option) {
    const boxes = option.choices.map((value) => {
      const chosen = textOf(option, this.given).split(",");
      const change = (/** @type {boolean} */ on) => {
        const others = textOf(option, this.given)
          .split(",")
          .filter((other) => other !== value && other !== NONE);
        this.#set(option, (on ? [...others, value] : others).join(","));
      };
      const checked = chosen.includes(value);
      return tick({ type: "checkbox", value, checked, onchange: (e) => change(e.currentTarget.checked) }, value);
    });
    return h("div", { class: "ticks-list" }, boxes);
  }
}

/** The words of an option behind a “?” beside its label. @param {HTMLElement} element @param {Child} words */
function explained(element, words) {
  const row = h("div", { class: "row tight" });
  const label = element.querySelector("label");
  label?.replaceWith(row);
  append(row, [label, words]);
  return element;
}

/** @param {string} value @returns {Option} */
const plain = (value) => [value, value];

/** @param {OptionField["forms"][number]} form @returns {Option} */
const formOption = ({ name }) => [name, name];

/** @param {OptionField} option */
function patternOf({ kind, list, optional }) {
  const one = kind === "int" ? "-?\\d+" : NUMBER;
  const some = list ? `${one}(\\s*,\\s*${one})*` : one;
  return optional || list ? `${some}|${NONE}` : some;
}

/** @param {OptionField} option @param {Given} given */
export function textOf(option, given) {
  const value = given[option.name];
  if (value === undefined) {
    return option.default;
  }
  if (value === null || (Array.isArray(value) && !value.length)) {
    return NONE;
  }
  return typeof value === "boolean" ? flag(value) : String(value);
}

/** @param {boolean} value */
const flag = (value) => (value ? "True" : "False");

/**
 * Give an option what was typed; its default, or nothing, is as if it were not given.
 * @param {OptionField} option @param {string} text @param {Given} given
 */
export function setOption(option, text, given) {
  if (text.trim() === "" || text === option.default) {
    delete given[option.name];
  } else {
    given[option.name] = valueOf(option, text.trim());
  }
}

/** @param {OptionField} option @param {string} text @returns {GivenValue} */
function valueOf({ kind, list, forms }, text) {
  if (list) {
    const parts = text === NONE ? [] : text.split(",").map((part) => part.trim());
    return kind === "str" ? parts : parts.map(Number);
  }
  if (text === NONE) {
    return null;
  }
  if (kind === "bool") {
    return text === "True";
  }
  return kind === "str" || forms.length ? text : Number(text);
}

/**
 * What an address says of the options.
 * @param {OptionField[]} options @param {URLSearchParams} query @param {Given} given changed in place
 */
export function readOptions(options, query, given) {
  for (const option of options) {
    const text = query.get(option.name);
    if (text !== null) {
      setOption(option, text, given);
    }
  }
}

/**
 * What was given of the options that there are; what this browser kept may be older than they are.
 * @param {OptionField[]} options @param {Given | undefined} given @returns {Given}
 */
export function knownOnly(options, given = {}) {
  const names = options.map(({ name }) => name);
  return Object.fromEntries(Object.entries(given).filter(([name]) => names.includes(name)));
}
