// A small "?" that opens a definition beside it; one at a time, Escape or a click elsewhere closes it.
import { h, part } from "./dom.js";
import { WORDS } from "./words.js";

/** @type {{ close: () => void, button: HTMLButtonElement } | null} */
let open = null;

/**
 * @param {string} name
 * @param {[title: string, text: string]} [words] where they do not stand in WORDS
 */
export function explain(name, words = WORDS[name]) {
  const [title, text] = words;
  const label = `What is “${title}”?`;
  const button = h("button", { type: "button", class: "explain", "aria-label": label, "aria-expanded": "false" }, "?");
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    const before = open;
    before?.close();
    if (before?.button !== button) {
      show(button, title, text);
    }
  });
  return h("span", { class: "explained" }, button);
}

/** @param {HTMLButtonElement} button @param {string} title @param {string} text */
function show(button, title, text) {
  const panel = h("div", { class: "words", role: "note" }, h("strong", {}, title), h("p", {}, text));
  const close = () => {
    panel.remove();
    button.setAttribute("aria-expanded", "false");
    open = null;
  };
  part("main").append(panel);
  place(panel, button.getBoundingClientRect());
  button.setAttribute("aria-expanded", "true");
  open = { close, button };
}

/**
 * Below what it explains, or above where there is no room below.
 * @param {HTMLElement} panel @param {DOMRect} at
 */
function place(panel, at) {
  const size = panel.getBoundingClientRect();
  const isAbove = at.bottom + size.height + 12 > innerHeight && at.top > size.height + 12;
  panel.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 12)) + scrollX}px`;
  panel.style.top = `${(isAbove ? at.top - size.height - 6 : at.bottom + 6) + scrollY}px`;
}

addEventListener("click", (event) => {
  if (open && event.target instanceof Element && !event.target.closest(".words")) {
    open.close();
  }
});
addEventListener("hashchange", () => open?.close());
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && open) {
    const { button } = open;
    open.close();
    button.focus();
  }
});
