// One dial: a slider from the other way to beyond the full circuit, and the exact number beside it.
import { iconButton } from "./controls.js";
import { h } from "./dom.js";
import { within } from "./numbers.js";

const LOW = -2;
const HIGH = 3;
const LIMIT = 100; // of the exact number
const CATCHES = [-1, 0, 1, 2]; // where the slider stops by itself
/** @type {[number, string][]} */
const MARKS = [
  [-2, "−2"],
  [-1, "−1"],
  [0, "0"],
  [1, "1"],
  [2, "2"],
  [3, "3"],
];

/** @param {number} value */
function dialWord(value) {
  if (value === 0) {
    return "unsteered";
  }
  if (value < 0) {
    return "the other way";
  }
  if (value < 1) {
    return "part of the way";
  }
  return value === 1 ? "full circuit" : "beyond the full circuit";
}

/** @param {number} value */
function zone(value) {
  if (value < 0) {
    return "other";
  }
  if (value > 1) {
    return "beyond";
  }
  return value === 0 ? "zero" : "in";
}

/** @param {number} value */
const cleaned = (value) => within(Number.isFinite(value) ? Math.round(value * 1000) / 1000 : 0, -LIMIT, LIMIT);

/**
 * What a dial turns, and where it stands. `off`: how many neurons are switched off.
 * @typedef {object} Dial
 * @property {string} id
 * @property {string} name
 * @property {number} value
 * @property {"remove" | "induce"} direction
 * @property {number} neurons
 * @property {number} off
 */

/**
 * @param {Dial} shown
 * @param {(value: number) => void} onchange
 * @param {(() => void) | null} onremove none where it can't be taken out
 */
export function dial(shown, onchange, onremove) {
  const { slider, exact } = inputs(shown);
  const word = h("span", { class: "word" });
  const element = frame(shown, { slider, exact, word }, onremove);

  /** @param {number} next @param {HTMLInputElement | null} from the input that the user moves, which stays as it is */
  function set(next, from) {
    const value = cleaned(next);
    for (const input of [slider, exact]) {
      if (input !== from) {
        input.value = String(value);
      }
    }
    const aim = shown.direction === "induce" ? "induces" : "removes";
    word.textContent = dialWord(value) + (value > 0 && value <= 1 ? ` (${aim})` : "");
    element.dataset.zone = zone(value);
    slider.setAttribute("aria-valuetext", `${value}: ${dialWord(value)}`);
    return value;
  }

  set(shown.value, null);
  slider.addEventListener("input", () => {
    const near = CATCHES.find((mark) => Math.abs(slider.valueAsNumber - mark) < 0.04);
    onchange(set(near ?? slider.valueAsNumber, near === undefined ? slider : null));
  });
  exact.addEventListener("change", () => onchange(set(exact.valueAsNumber, exact)));
  return element;
}

/** @param {Dial} shown */
function inputs({ id, name, value }) {
  const slider = h("input", {
    type: "range",
    min: LOW,
    max: HIGH,
    step: 0.05,
    value,
    "aria-label": `Dial of ${name}`,
    id: `dial-${id}`,
  });
  const exact = h("input", {
    type: "number",
    min: -LIMIT,
    max: LIMIT,
    step: 0.05,
    value,
    "aria-label": `Exact dial of ${name}`,
    class: "exact",
  });
  return { slider, exact };
}

/**
 * @param {Dial} shown
 * @param {{ slider: HTMLInputElement, exact: HTMLInputElement, word: HTMLElement }} parts
 * @param {(() => void) | null} onremove
 */
function frame({ id, name, neurons, off }, { slider, exact, word }, onremove) {
  const marks = MARKS.map(([at, text]) =>
    h("span", { style: { left: `${(100 * (at - LOW)) / (HIGH - LOW)}%` } }, text),
  );
  const out = onremove ? iconButton("close", `Take ${name} out`, onremove) : null;
  const count = `${neurons - off} neurons${off ? `, ${off} off` : ""}`;
  return h(
    "div",
    { class: "dial" },
    h(
      "div",
      { class: "row spread" },
      h("label", { for: `dial-${id}` }, name),
      h("span", { class: "row tight" }, exact, out),
    ),
    h("div", { class: "track" }, slider, h("div", { class: "marks", "aria-hidden": "true" }, marks)),
    h("div", { class: "row spread faint" }, word, h("a", { href: `#/look/${encodeURIComponent(id)}` }, count)),
  );
}
