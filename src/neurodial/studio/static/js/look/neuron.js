// One neuron's page, with ways to those before and after it.
import { fill, h } from "../dom.js";
import { loading, problem } from "../messages.js";
import { longName, shortName } from "../names.js";
import { address } from "../route.js";
import { getCircuit, listPromptSets, startNeuron } from "../server.js";
import { Explained, fitting, readingControls } from "./explained.js";
/** @import { CircuitRow, PromptSet } from "../../../types/views.d.ts" */
/** @import { On } from "./explained.js" */
/** @import { Visit } from "./look.js" */

/**
 * A neuron of a circuit, and how it is read.
 * @typedef {On & { layer: number, index: number }} Asked
 */

/** @param {HTMLElement} main @param {Visit} visit @param {Asked} asked */
export async function neuronPage(main, visit, asked) {
  fill(main, loading());
  try {
    const [sets, { circuit }] = await Promise.all([listPromptSets(), getCircuit(asked.id)]);
    if (visit.isOver) {
      return;
    }
    const on = { ...asked, set: fitting(sets, asked) };
    const { id, layer, index, set, shows } = on;
    const request = { circuit: id, layer, index, prompts: set, show_harmful: shows };
    const explained = new Explained(visit, (more) => startNeuron({ ...request, ...more }), { measures: true });
    fill(main, frame(on, sets, circuit.rows, explained));
    await explained.read();
  } catch (error) {
    if (!visit.isOver) {
      fill(main, problem(error, h("a", { class: "button", href: "#/look" }, "All circuits")));
    }
  }
}

/** @param {Asked} on @param {PromptSet[]} sets @param {CircuitRow[]} rows @param {Explained} explained */
function frame(on, sets, rows, explained) {
  const { id, layer, index } = on;
  const place = rows.findIndex((row) => row[0] === layer && row[1] === index);
  const ranked = [...rows].sort((one, other) => Math.abs(other[2]) - Math.abs(one[2]));
  const rank = place < 0 ? -1 : ranked.indexOf(rows[place]);
  const to = (/** @type {CircuitRow | undefined} */ row, /** @type {string} */ text) =>
    row
      ? h(
          "a",
          { href: there({ ...on, layer: row[0], index: row[1] }) },
          `next ${text}: ${row[0]}.${shortName(row[0], row[1])}`,
        )
      : null;
  return h(
    "div",
    { class: "page wide" },
    h(
      "p",
      { class: "row spread" },
      h("a", { href: address("look", [id]) }, `← ${id}`),
      rank < 0 ? null : h("span", { class: "row" }, to(ranked[rank - 1], "stronger"), to(ranked[rank + 1], "weaker")),
    ),
    h(
      "div",
      { class: "row spread" },
      h("h1", {}, `Layer ${layer}, ${longName(layer, index)}`),
      readingControls(sets, on, (changed) => {
        location.hash = there({ ...on, ...changed });
      }),
    ),
    explained.beside,
    explained.body,
  );
}

/** @param {Asked} asked */
function there({ id, layer, index, set, shows }) {
  return address("look", [id, "neuron", `${layer}.${index}`], { set, shows });
}
