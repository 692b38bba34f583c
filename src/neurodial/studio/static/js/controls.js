// What a user presses, chooses and fills in.
import { h, svg } from "./dom.js";
/** @import { Child, Option, Properties } from "../../types/page.d.ts" */

export const glyphs = {
  send: "M4 12h15M13 6l6 6-6 6",
  stop: "M7 7h10v10H7z",
  again: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  edit: "M5 19h3l10-10-3-3L5 16zM13 8l3 3",
  close: "M6 6l12 12M18 6 6 18",
  strip: "M4 5h4v14H4zM10 5h4v14h-4zM16 5h4v14h-4z",
  sun:
    "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5 19 19" +
    "M5 19l1.5-1.5M17.5 6.5 19 5",
  moon: "M19 14.5A7.5 7.5 0 0 1 9.5 5a7.5 7.5 0 1 0 9.500 9.500z",
};

/**
 * @param {Child} text
 * @param {Properties<HTMLButtonElement>["onclick"]} onclick
 * @param {Properties<HTMLButtonElement>} [properties]
 */
export const button = (text, onclick, properties = {}) => h("button", { type: "button", onclick, ...properties }, text);

/**
 * A button that shows a glyph and says its label to those who do not see it.
 * @param {keyof typeof glyphs} glyph
 * @param {string} label
 * @param {Properties<HTMLButtonElement>["onclick"]} onclick
 */
export function iconButton(glyph, label, onclick) {
  const properties = { type: "button", class: "quiet icon", "aria-label": label, title: label, onclick };
  return h("button", properties, svg(glyphs[glyph]));
}

let fields = 0;

/**
 * An input under its label, with a line of help where there is one.
 * @param {string} label
 * @param {HTMLElement} input
 * @param {string | null} [help]
 */
export function field(label, input, help) {
  if (!input.id) {
    fields += 1;
    input.id = `f${fields}`;
  }
  const hint = help ? h("small", { id: `${input.id}-help` }, help) : null;
  if (hint) {
    input.setAttribute("aria-describedby", hint.id);
  }
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint);
}

/**
 * @param {Option[]} options
 * @param {string} chosen
 * @param {(value: string) => void} onchange
 */
export function select(options, chosen, onchange) {
  return h(
    "select",
    { onchange: (event) => onchange(event.currentTarget.value) },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
}

/**
 * A box to tick, or a radio button, before its text.
 * @param {Properties<HTMLInputElement>} properties
 * @param {...Child} text
 */
export const tick = (properties, ...text) => h("label", { class: "row tight" }, h("input", properties), text);

/**
 * A form that is handled by the page.
 * @param {string} kind its class
 * @param {() => unknown} onsubmit
 * @param {...Child} children
 */
export function form(kind, onsubmit, ...children) {
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    onsubmit();
  };
  return h("form", { class: kind, onsubmit: submit }, children);
}
