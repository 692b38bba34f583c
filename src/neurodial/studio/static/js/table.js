// Tables that scroll on their own where they are wider than the page.
import { h } from "./dom.js";
/** @import { Child } from "../../types/page.d.ts" */

/** @param {Child[]} texts */
export const heads = (texts) => texts.map((text) => h("th", { scope: "col" }, text));

/**
 * A table of plain cells: headings above, rows of `th` and `td` below.
 * @param {Child[]} headings
 * @param {HTMLTableRowElement[]} rows
 * @param {string} [kind] its class
 */
export function table(headings, rows, kind = "plain") {
  return h("table", { class: kind }, h("thead", {}, h("tr", {}, heads(headings))), h("tbody", {}, rows));
}

/**
 * A row that begins with its heading.
 * @param {Child} heading
 * @param {Child[]} cells
 */
export function row(heading, cells) {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, heading),
    cells.map((cell) => h("td", {}, cell)),
  );
}

/**
 * @param {string} label what it is, for those who do not see it
 * @param {...Child} children
 */
export const scroll = (label, ...children) =>
  h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, children);

/**
 * A bar of a share of its width.
 * @param {"up" | "down"} side
 * @param {number} share from 0 to 1
 */
export const bar = (side, share) => h("span", { class: `bar ${side}`, style: { "--share": `${100 * share}%` } });
