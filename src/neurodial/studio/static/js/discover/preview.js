// Prompts as the model sees them: each box is a token, those that are read are framed.
import { fill, h } from "../dom.js";
import { blank } from "../messages.js";
import { visible } from "../numbers.js";
/** @import { CheckedPrompts, Spelled } from "../../../types/views.d.ts" */

/** @param {HTMLElement} element */
export function drawNothing(element) {
  fill(element, blank("Paste your prompts", "They are checked as you type, and shown as the model sees them."));
}

/** @param {HTMLElement} element @param {CheckedPrompts} checked */
export function drawPreview(element, { counts, notes, examples }) {
  const framed = h("span", { class: "piece read" }, "framed");
  fill(
    element,
    h(
      "section",
      { class: "card" },
      h("h2", {}, "As the model sees them"),
      h("p", { class: "row faint" }, Object.entries(counts).map(drawCount)),
      notes.map((note) => h("p", { class: "note" }, note)),
      h("h3", {}, "shows the behaviour"),
      examples.positive.map(drawPrompt),
      h("h3", {}, "does not"),
      examples.negative.map(drawPrompt),
      h("p", { class: "faint" }, framed, " where activations are read; each box is one token."),
    ),
  );
}

/** @param {[string, [number, number] | null]} count of a split: prompts on both sides */
const drawCount = ([split, sides]) =>
  h("span", { class: "tag" }, sides ? `${split} ${sides[0]} + ${sides[1]}` : `${split}: none`);

/** @param {Spelled} prompt */
function drawPrompt({ tokens, read }) {
  const pieces = tokens.map((text, place) => {
    const isRead = read.includes(place);
    const properties = { class: isRead ? "piece read" : "piece", title: isRead ? "read here" : visible(text) };
    return h("span", properties, text === "\n" ? "↵\n" : text);
  });
  return h("p", { class: "seen" }, pieces);
}
