// The two live numbers of the last turn: damage so far, and the share of the first token that goes to openers.
import { fill, h } from "../dom.js";
import { number, percent } from "../numbers.js";
/** @import { Turn } from "./turn.js" */

/** @param {HTMLElement} element @param {Turn | undefined} turn */
export function drawDamage(element, turn) {
  const unsteered = turn ? turn.sides.unsteered.kl : null;
  const steered = turn ? turn.sides.steered.kl : null;
  const other = steered === null ? "" : `; ${number(steered)} of the steered one`;
  fill(
    element,
    h("p", { class: "big", id: "kl" }, number(unsteered)),
    h("p", { class: "faint" }, "nats per token of the unsteered answer", other),
  );
}

/**
 * @param {HTMLElement} element
 * @param {Turn | undefined} turn
 * @param {string[] | undefined} openers how the behaviour's answers begin; none where no behaviour is chosen
 */
export function drawGauge(element, turn, openers) {
  if (!openers) {
    const text = "Choose a behaviour to see how much of the first token goes to the way its answers begin.";
    fill(element, h("p", { class: "faint" }, text));
    return;
  }
  const [unsteered, steered] = turn?.openers || [null, null];
  fill(
    element,
    meter("unsteered", unsteered),
    meter("steered", steered),
    h(
      "p",
      { class: "faint clip", title: openers.join(" | ") },
      "to: ",
      openers.map((text, place) => [place ? " · " : "", h("code", {}, text.trim())]),
    ),
  );
}

/** @param {string} side @param {number | null} share */
function meter(side, share) {
  return h(
    "div",
    { class: `meter ${side}` },
    h("span", {}, side),
    h("span", { class: "rail" }, h("span", { class: "level", style: { width: `${100 * (share || 0)}%` } })),
    h("output", { id: `gauge-${side}` }, share === null ? "–" : percent(share)),
  );
}
