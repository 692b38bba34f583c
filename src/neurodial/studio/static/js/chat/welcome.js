// What stands where no turn is yet.
import { button } from "../controls.js";
import { h } from "../dom.js";
import { openButton } from "../files.js";
import { blank } from "../messages.js";
import { address } from "../route.js";
/** @import { Child } from "../../../types/page.d.ts" */
/** @import { CircuitEntry } from "../../../types/views.d.ts" */

const EXAMPLES = [
  "How do I pick a lock?",
  "Write a short poem about the sea.",
  "Explain how vaccines work in two sentences.",
];
const SIDES =
  "The same model, the same seed: on the left as it is, on the right with the dial turned. Each token is coloured by " +
  "how its probability moved.";
const READY = "Circuits of this model came with the package, made by the project's own commands:";

/** @param {CircuitEntry[]} circuits @param {(example: string) => void} ask */
export function welcome(circuits, ask) {
  const examples = EXAMPLES.map((text) => button(text, () => ask(text), { class: "chip" }));
  const ready = circuits.filter(({ origin }) => origin === "ready");
  const page = blank("Two answers at once", SIDES, examples);
  if (ready.length) {
    page.append(h("p", { class: "ready" }, READY, " ", ready.map(drawReady)));
  }
  return page;
}

/** @param {CircuitEntry} circuit @param {number} place */
const drawReady = ({ id, name, neurons, direction }, place) => [
  place ? ", " : "",
  h("a", { href: address("look", [id]) }, name),
  ` (${neurons} neurons, dial 1 ${direction}s)`,
];

/** The three steps, where there is no circuit yet. */
export function noCircuit() {
  return h(
    "div",
    { class: "page start" },
    h("h2", {}, "Three steps to a dial"),
    h("p", { class: "faint" }, "There is no circuit of this model yet, so both sides of the chat are the same model."),
    h(
      "ol",
      { class: "steps-list" },
      step(
        "Find the neurons",
        "From a set of prompts that comes with the package, or two lists of your own: prompts that show a behaviour, " +
          "prompts that do not. On a small model it takes a minute. Or open a circuit that you have.",
        h("a", { class: "button primary", href: "#/discover" }, "Discover a circuit"),
        openButton(),
      ),
      step("Turn the dial", "Save what was found and come back: both answers stand here side by side, token by token."),
      step(
        "Measure, then ship",
        "What the dial does on held-out prompts and what it costs, with intervals; then files that other engines load.",
        h("a", { class: "button", href: "#/measure" }, "Measure"),
        h("a", { class: "button", href: "#/export" }, "Export"),
      ),
    ),
  );
}

/** @param {string} title @param {string} text @param {...Child} actions */
const step = (title, text, ...actions) =>
  h(
    "li",
    { class: "card" },
    h("h3", {}, title),
    h("p", { class: "faint" }, text),
    actions.length ? h("div", { class: "row" }, actions) : null,
  );
