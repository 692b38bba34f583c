// What a discovery found: its map, how sure it is, and a name to save it by.
import { button } from "../controls.js";
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { aboutCard } from "../look/about.js";
import { layerBars } from "../map/bars.js";
import { drawHistogram } from "../map/histogram.js";
import { drawMap } from "../map/map.js";
import { unpack } from "../map/unpack.js";
import { messageOf, toast } from "../messages.js";
import { address } from "../route.js";
import { saveCircuit } from "../server.js";
/** @import { Discovered } from "../../../types/views.d.ts" */

/** @param {HTMLElement} element @param {number} job @param {Discovered} discovered */
export function drawFound(element, job, { circuit, scores }) {
  const title = h(
    "div",
    {},
    h("h2", {}, `${circuit.neurons} neurons found`),
    h("p", { class: "faint" }, `dial 1 ${circuit.direction}s`),
  );
  const distribution = h("h2", {}, "Distribution", explain("cutoff"));
  fill(
    element,
    h(
      "section",
      { class: "card" },
      h("div", { class: "row spread" }, title, saving(job, circuit.name)),
      layerBars(circuit.layers),
    ),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Every neuron's score", explain("rank")),
      drawMap(unpack(scores), null),
    ),
    h(
      "div",
      { class: "grid two" },
      h("section", { class: "card" }, distribution, drawHistogram(scores.histogram, scores.cutoff)),
      aboutCard(circuit),
    ),
  );
}

/** @param {number} job @param {string} proposed */
function saving(job, proposed) {
  const label = "Name of the circuit";
  const name = h("input", { type: "text", value: proposed, maxlength: 60, "aria-label": label, id: "save-name" });
  const save = async () => {
    try {
      const { id } = await saveCircuit({ job, name: name.value || proposed });
      toast(`Saved as ${id}`);
      const dialled = address("chat", [], { c: `${id}@1` });
      fill(
        box,
        h("span", {}, "Saved as "),
        h("a", { href: address("look", [id]) }, id),
        h("a", { class: "button primary", href: dialled }, "Turn its dial in the chat"),
      );
    } catch (error) {
      toast(messageOf(error));
    }
  };
  const box = h("div", { class: "row" }, name, button("Save", save, { class: "primary" }));
  return box;
}
