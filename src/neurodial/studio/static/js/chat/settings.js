// The settings of the chat: what is said before, and how answers are drawn.
import { field } from "../controls.js";
import { h } from "../dom.js";
import { keep, recall } from "../keep.js";
import { within } from "../numbers.js";
/** @import { ChatOptions } from "../../../types/page.d.ts" */

// Numbers with their bounds. Whole ones have a step of 1.
const NUMBERS = [
  {
    key: "temperature",
    label: "Temperature",
    low: 0,
    high: 5,
    step: 0.1,
    help: "0 is greedy. Both sides draw with the same noise.",
  },
  { key: "seed", label: "Seed", low: 0, high: 2147483647, step: 1, help: null },
  { key: "length", label: "Longest answer, in tokens", low: 1, high: 2048, step: 1, help: null },
];

/**
 * @param {ChatOptions} options changed in place
 * @param {() => void} onchange
 */
export function drawSettings(options, onchange) {
  const system = h("textarea", {
    rows: 2,
    value: options.system,
    maxlength: 20000,
    onchange: (event) => {
      options.system = event.currentTarget.value;
      onchange();
    },
  });
  return h(
    "details",
    {
      class: "settings",
      open: recall("settings", false),
      ontoggle: (event) => keep("settings", event.currentTarget.open),
    },
    h("summary", {}, "Settings"),
    field("System prompt", system),
    NUMBERS.map((setting) => numberField(setting, options, onchange)),
  );
}

/**
 * @param {typeof NUMBERS[number]} setting
 * @param {ChatOptions} options
 * @param {() => void} onchange
 */
function numberField({ key, label, low, high, step, help }, options, onchange) {
  const change = (/** @type {HTMLInputElement} */ input) => {
    const value = within(Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : 0, low, high);
    input.value = String(value);
    options[key] = step === 1 ? Math.round(value) : value;
    onchange();
  };
  const input = h("input", {
    type: "number",
    min: low,
    max: high,
    step,
    value: options[key],
    onchange: (event) => change(event.currentTarget),
  });
  return field(label, input, help);
}
