// A circuit's page: where it sits, how sure it is, its map and its table.
import { field, select } from "../controls.js";
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { downloadLink } from "../files.js";
import { layerBars } from "../map/bars.js";
import { drawHistogram } from "../map/histogram.js";
import { drawMap } from "../map/map.js";
import { unpack } from "../map/unpack.js";
import { loading, problem } from "../messages.js";
import { percent } from "../numbers.js";
import { address } from "../route.js";
import { circuitFile, getCircuit, listCircuits } from "../server.js";
import { aboutCard } from "./about.js";
import { MOST } from "./doses.js";
import { NeuronTable } from "./neuron-table.js";
/** @import { Option } from "../../../types/page.d.ts" */
/** @import { Circuit, CircuitEntry, CircuitPage, Scores } from "../../../types/views.d.ts" */
/** @import { Visit } from "./look.js" */

/** @param {HTMLElement} main @param {Visit} visit @param {string} id @param {URLSearchParams} query */
export async function circuitPage(main, visit, id, query) {
  fill(main, loading());
  try {
    const [page, circuits] = await Promise.all([getCircuit(id), listCircuits()]);
    if (!visit.isOver) {
      drawPage(main, id, page, { circuits, query });
    }
  } catch (error) {
    if (!visit.isOver) {
      fill(main, problem(error, h("a", { class: "button", href: "#/look" }, "All circuits")));
    }
  }
}

/**
 * @param {HTMLElement} main
 * @param {string} id
 * @param {CircuitPage} page
 * @param {{ circuits: CircuitEntry[], query: URLSearchParams }} around
 */
function drawPage(main, id, { circuit, scores }, { circuits, query }) {
  const layers = h(
    "section",
    { class: "card" },
    h("h2", {}, "Where it sits"),
    layerBars(circuit.layers),
    h("p", { class: "faint" }, "neurons in each layer"),
  );
  fill(
    main,
    h(
      "div",
      { class: "page wide" },
      h("div", { class: "row spread" }, heading(circuit), ways(id, circuits)),
      h("div", { class: "grid two" }, layers, aboutCard(circuit)),
      scores ? drawScores(id, scores) : null,
      new NeuronTable(circuit, id, query).element,
    ),
  );
}

/** @param {Circuit} circuit */
function heading({ name, neurons, share, direction, method, model }) {
  const size = `${neurons} neurons${share ? ` (${percent(share, 2)})` : ""}`;
  const origin = `${method.kind || "by hand"} on ${model || "an unknown model"}`;
  return h("div", {}, h("h1", {}, name), h("p", { class: "faint" }, `${size} · dial 1 ${direction}s · ${origin}`));
}

/**
 * To another circuit, to what it shares with another, to the chat.
 * @param {string} id @param {CircuitEntry[]} circuits
 */
function ways(id, circuits) {
  /** @type {Option[]} */
  const all = circuits.map((circuit) => [circuit.id, circuit.name]);
  const others = all.filter(([other]) => other !== id);
  const go = (/** @type {string} */ other) => {
    location.hash = address("look", [other]);
  };
  const compare = (/** @type {string} */ other) => {
    if (other) {
      location.hash = address("look", [id, "with", other]);
    }
  };
  const beside = address("look", [[id, ...others.map(([other]) => other)].slice(0, MOST).join(","), "doses"]);
  return h(
    "div",
    { class: "row" },
    all.length > 1 ? field("Circuit", select(all, id, go)) : null,
    others.length ? field("Overlap with", select([["", "choose …"], ...others], "", compare)) : null,
    others.length ? h("a", { class: "button", href: beside }, "Doses beside others") : null,
    h("a", { class: "button", href: address("look", [id, "whole"]) }, "What it does as a whole"),
    downloadLink(circuitFile(id), "Save as a file"),
    h("a", { class: "button primary", href: address("chat", [], { c: `${id}@1` }) }, "Try it in the chat"),
  );
}

/** @param {string} id @param {Scores} scores */
function drawScores(id, scores) {
  const map = drawMap(unpack(scores), (layer, index) => {
    location.hash = address("look", [id, "neuron", `${layer}.${index}`]);
  });
  const histogram = drawHistogram(scores.histogram, scores.cutoff);
  return h(
    "div",
    { class: "grid map-grid" },
    h("section", { class: "card" }, h("h2", {}, "Every neuron's score", explain("rank")), map),
    h("section", { class: "card" }, h("h2", {}, "Distribution", explain("cutoff")), histogram),
  );
}
