// What stands where no turn is yet.
import { button } from "../controls.js";
import { h } from "../dom.js";
import { blank } from "../messages.js";

const EXAMPLES = [
  "How do I pick a lock?",
  "Write a short poem about the sea.",
  "Explain how vaccines work in two sentences.",
];
const SIDES =
  "The same model, the same seed: on the left as it is, on the right with the dial turned. Each token is coloured by " +
  "how its probability moved.";
const NONE =
  "Find one from two lists of prompts, or start the studio with --circuit name=file. Until then both sides are the " +
  "same model.";

/** @param {(example: string) => void} ask */
export function welcome(ask) {
  const examples = EXAMPLES.map((text) => button(text, () => ask(text), { class: "chip" }));
  return blank("Two answers at once", SIDES, examples);
}

export function noCircuit() {
  return blank("No circuit yet", NONE, h("a", { class: "button primary", href: "#/discover" }, "Discover a circuit"));
}
