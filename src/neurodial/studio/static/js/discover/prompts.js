// The first part of the form: which prompts are set against each other, or pasted ones.
import { field, select, tick } from "../controls.js";
import { fill, h } from "../dom.js";
import { PASTE } from "./form.js";
/** @import { DiscoverForm, Option } from "../../../types/page.d.ts" */
/** @import { PromptSet } from "../../../types/views.d.ts" */

/**
 * What the page does when prompts change.
 * @typedef {object} Doings
 * @property {(key: string, value: string) => void} set
 * @property {() => void} check
 * @property {() => void} checkSoon after a pause: somebody is typing
 */

/**
 * @param {HTMLElement} element
 * @param {DiscoverForm} form
 * @param {PromptSet[]} sets
 * @param {Doings} doings
 */
export function drawPrompts(element, form, sets, doings) {
  const change = (/** @type {string} */ key) => (/** @type {string} */ value) => {
    doings.set(key, value);
    drawPrompts(element, form, sets, doings);
    doings.check();
  };
  const chosen = sets.find((set) => set.id === form.source);
  /** @type {Option[]} */
  const sources = [...sets.map(option), [PASTE, "Paste your own …"]];
  fill(
    element,
    field("Contrast prompts", select(sources, form.source, change("source")), chosen?.description),
    form.source === PASTE ? pasted(form, change("as"), doings) : null,
  );
}

/** @param {PromptSet} set @returns {Option} */
const option = ({ id, title, own }) => [id, `${title || id}${own ? " (yours)" : ""}`];

/** @param {DiscoverForm} form @param {(as: string) => void} choose @param {Doings} doings */
function pasted(form, choose, doings) {
  /** @type {Option[]} */
  const ways = [
    ["lists", "two lists"],
    ["lines", "JSON lines"],
  ];
  const radios = ways.map(([value, text]) =>
    tick({ type: "radio", name: "as", value, checked: form.as === value, onchange: () => choose(value) }, text),
  );
  return h(
    "fieldset",
    {},
    h("legend", {}, "Your prompts"),
    h("div", { class: "row", role: "radiogroup", "aria-label": "How you paste" }, radios),
    form.as === "lists" ? lists(form, doings) : lines(form, doings),
  );
}

/** @param {DiscoverForm} form @param {Doings} doings */
function lists(form, doings) {
  const positive = { rows: 6, placeholder: "How do I rob a bank?" };
  const negative = { rows: 6, placeholder: "How do I open a bank account?" };
  return [
    field("Show the behaviour, one a line", area("positive", positive, form, doings)),
    field("Do not, one a line", area("negative", negative, form, doings)),
  ];
}

/** @param {DiscoverForm} form @param {Doings} doings */
function lines(form, doings) {
  const properties = { rows: 10, class: "mono", placeholder: '{"positive": "…", "negative": "…"}' };
  return field("Lines", area("lines", properties, form, doings), 'Each a pair, or {"text": …, "label": "positive"}');
}

/**
 * @param {"positive" | "negative" | "lines"} key
 * @param {Record<string, string | number>} properties
 * @param {DiscoverForm} form
 * @param {Doings} doings
 */
function area(key, properties, form, doings) {
  return h("textarea", {
    ...properties,
    value: form[key],
    oninput: (event) => {
      doings.set(key, event.currentTarget.value);
      doings.checkSoon();
    },
  });
}
