// The note beside a token: how its probability moved, and what else might have come.
import { fill, h } from "../dom.js";
import { number, percent, visible } from "../numbers.js";
import { heads } from "../table.js";
/** @import { TokenEvent } from "../../../types/views.d.ts" */

const TINY = 1e-12;

const note = h("div", { id: "token-note", role: "tooltip", hidden: true });
document.body.append(note);

/**
 * @param {Element} target the token on the page
 * @param {TokenEvent} token
 */
export function showNote(target, token) {
  const chosen = token.text.trim();
  fill(
    note,
    h("p", { class: "row spread" }, h("code", {}, visible(token.text)), h("span", {}, ratio(token))),
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, heads(["token here", "unsteered", "steered"]))),
      h(
        "tbody",
        {},
        token.top.map((alternative) => drawAlternative(alternative, chosen)),
      ),
    ),
    h(
      "p",
      { class: "faint" },
      `KL here ${number(token.kl)} nats · so far ${number(token.mean)} per token of the ${token.side} answer`,
    ),
  );
  note.hidden = false;
  place(target.getBoundingClientRect());
}

export function hideNote() {
  note.hidden = true;
}

/** @param {TokenEvent} token */
function ratio({ p: [unsteered, steered] }) {
  const factor = steered / Math.max(unsteered, TINY);
  return factor >= 1 ? `× ${number(factor, 2)}` : `÷ ${number(1 / Math.max(factor, TINY), 2)}`;
}

/** @param {[string, number, number]} alternative @param {string} chosen */
function drawAlternative([text, unsteered, steered], chosen) {
  return h(
    "tr",
    { class: text.trim() === chosen ? "chosen" : "" },
    h("th", { scope: "row" }, h("code", {}, visible(text))),
    share(unsteered, "unsteered"),
    share(steered, "steered"),
  );
}

/** @param {number} probability @param {string} side */
function share(probability, side) {
  const style = { "--share": `${100 * probability}%` };
  return h("td", {}, h("span", { class: `share ${side}`, style }, percent(probability)));
}

/**
 * Above the token, or below it where there is no room above.
 * @param {DOMRect} token
 */
function place(token) {
  const size = note.getBoundingClientRect();
  const left = Math.max(8, Math.min(innerWidth - size.width - 8, token.left));
  const above = token.top - size.height - 8;
  note.style.left = `${left + scrollX}px`;
  note.style.top = `${(above > 8 ? above : token.bottom + 8) + scrollY}px`;
}
