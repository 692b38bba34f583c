// What the page says: that something went wrong, that there is nothing yet, that it is loading.
import { h, part } from "./dom.js";
/** @import { Child } from "../../types/page.d.ts" */
/** @import { Words } from "../../types/views.d.ts" */

/**
 * What is thrown, in words.
 * @param {unknown} error
 * @returns {Words}
 */
function wordsOf(error) {
  if (error && typeof error === "object" && "words" in error && error.words) {
    return /** @type {Words} */ (error.words);
  }
  return { problem: messageOf(error) };
}

/** @param {unknown} error */
export const messageOf = (error) => (error instanceof Error ? error.message : String(error));

/**
 * @param {unknown} error what was thrown, or an object that has `words`
 * @param {...Child} actions
 */
export function problem(error, ...actions) {
  const words = wordsOf(error);
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, h("strong", {}, words.problem)),
    words.wanted && h("p", {}, "Wanted: ", words.wanted),
    words.fix && h("p", {}, words.fix),
    actions.length ? h("p", { class: "row" }, actions) : null,
  );
}

/**
 * What still lacks while one is typing: no error, for it is not sent.
 * @param {unknown} error what the server would say
 */
export function hint(error) {
  const words = wordsOf(error);
  return h(
    "div",
    { class: "card soft hint", role: "status" },
    h("p", {}, h("strong", {}, "Not ready to send yet"), ": ", words.problem),
    words.wanted && h("p", {}, "Wanted: ", words.wanted),
  );
}

/**
 * @param {string} title
 * @param {string} text
 * @param {...Child} actions
 */
export function blank(title, text, ...actions) {
  return h(
    "div",
    { class: "blank" },
    h("h2", {}, title),
    text && h("p", {}, text),
    actions.length ? h("p", { class: "row center" }, actions) : null,
  );
}

export function loading(text = "Loading …") {
  return h("p", { class: "loading", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), text);
}

/** @param {string} text */
export const soft = (text) => h("div", { class: "card soft" }, h("p", {}, text));

/** @param {string} text */
export function toast(text) {
  const note = h("div", { class: "toast" }, text);
  part("toasts").append(note);
  setTimeout(() => note.remove(), Math.max(5000, 80 * text.length));
}
