// What two circuits share.
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { blank, loading, problem } from "../messages.js";
import { number, percent } from "../numbers.js";
import { address } from "../route.js";
import { getOverlap } from "../server.js";
import { bar, scroll, table } from "../table.js";
import { shortName } from "../names.js";
/** @import { Overlap } from "../../../types/views.d.ts" */
/** @import { Visit } from "./look.js" */

const SCORES = ["layer", "neuron", "first score", "second score", "first dose", "second dose"];

/** @param {HTMLElement} main @param {Visit} visit @param {string} first @param {string} second */
export async function overlapPage(main, visit, first, second) {
  fill(main, loading());
  try {
    const overlap = await getOverlap(first, second);
    if (!visit.isOver) {
      fill(main, drawOverlap(first, overlap));
    }
  } catch (error) {
    if (!visit.isOver) {
      fill(main, problem(error));
    }
  }
}

/** @param {string} id of the first @param {Overlap} overlap */
function drawOverlap(id, overlap) {
  const { first, second, shared, rows } = overlap;
  const sizes = ` shared of ${first.neurons} and ${second.neurons} neurons`;
  return h(
    "div",
    { class: "page wide" },
    h("p", {}, h("a", { href: address("look", [id]) }, `← ${first.name}`)),
    h("h1", {}, `${first.name} and ${second.name}`),
    h(
      "section",
      { class: "card" },
      h("p", {}, h("span", { class: "big" }, shared), sizes, explain("overlap")),
      h("p", { class: "faint" }, inNumbers(overlap)),
      byLayer(overlap),
    ),
    rows.length ? sharedNeurons(id, rows) : blank("Nothing is shared", "No neuron is in both circuits."),
  );
}

/** @param {Overlap} overlap */
function inNumbers({ jaccard, expected, same_sign }) {
  const chance = expected === null ? "not known" : number(expected);
  const signs = same_sign === null ? "" : `; ${percent(same_sign)} of them have the same sign`;
  return `Jaccard ${number(jaccard)}; by chance ${chance} would be shared${signs}`;
}

/** @param {Overlap} overlap */
function byLayer({ first, second, by_layer }) {
  const top = Math.max(1, ...by_layer.map(([, one, two]) => Math.max(one, two)));
  const rows = by_layer.map(([layer, ...counts]) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, layer),
      counts.map((count) => h("td", { class: "signed" }, bar("up", count / top), h("span", {}, count))),
    ),
  );
  return scroll("Overlap by layer", table(["layer", first.name, second.name, "both"], rows));
}

/** @param {string} id @param {Overlap["rows"]} rows */
function sharedNeurons(id, rows) {
  const drawn = rows.map(([layer, index, ...numbers]) =>
    h(
      "tr",
      {},
      h("td", {}, layer),
      h("td", {}, h("a", { href: address("look", [id, "neuron", `${layer}.${index}`]) }, shortName(layer, index))),
      numbers.map((value) => h("td", {}, number(value))),
    ),
  );
  return h("section", { class: "card" }, h("h2", {}, "Shared neurons"), scroll("Shared neurons", table(SCORES, drawn)));
}
