// Several circuits' doses on one map of the model, layer by index, and in one table.
import { tick } from "../controls.js";
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { drawDoses, hueOf } from "../map/doses-map.js";
import { blank, loading, problem } from "../messages.js";
import { number } from "../numbers.js";
import { address } from "../route.js";
import { getDoses, listCircuits } from "../server.js";
import { bar, scroll, table } from "../table.js";
import { shortName } from "../names.js";
/** @import { CircuitEntry, Doses } from "../../../types/views.d.ts" */
/** @import { Visit } from "./look.js" */

export const MOST = 6; // circuits on one map
const SHOWN = 300; // rows

/** @param {HTMLElement} main @param {Visit} visit @param {string[]} ids */
export async function dosesPage(main, visit, ids) {
  fill(main, loading());
  try {
    const circuits = await listCircuits();
    const shown = ids.filter(Boolean).slice(0, MOST);
    const doses = shown.length ? await getDoses(shown) : null;
    if (!visit.isOver) {
      fill(main, drawPage(circuits, shown, doses));
    }
  } catch (error) {
    if (!visit.isOver) {
      fill(main, problem(error, h("a", { class: "button", href: "#/look" }, "All circuits")));
    }
  }
}

/** @param {CircuitEntry[]} circuits @param {string[]} ids @param {Doses | null} doses */
function drawPage(circuits, ids, doses) {
  return h(
    "div",
    { class: "page wide" },
    h("p", {}, h("a", { href: "#/look" }, "← All circuits")),
    h("h1", {}, "Doses side by side"),
    chooser(circuits, ids),
    doses ? [mapCard(doses), tableCard(doses)] : blank("No circuit is chosen", "Tick the circuits to compare."),
  );
}

/** @param {CircuitEntry[]} circuits @param {string[]} ids those that are shown */
function chooser(circuits, ids) {
  const choose = (/** @type {string} */ id, /** @type {boolean} */ isOn) => {
    const next = isOn ? [...ids, id] : ids.filter((other) => other !== id);
    location.hash = address("look", [next.join(",") || ",", "doses"]);
  };
  const boxes = circuits.map(({ id, name }) => {
    const place = ids.indexOf(id);
    const isFull = place < 0 && ids.length >= MOST;
    return tick(
      { type: "checkbox", checked: place >= 0, disabled: isFull, onchange: (e) => choose(id, e.currentTarget.checked) },
      place < 0 ? null : h("span", { class: "swatch", style: { background: hueOf(place) } }),
      name,
    );
  });
  return h("fieldset", {}, h("legend", {}, `Circuits, up to ${MOST}`), h("div", { class: "row" }, boxes));
}

/** @param {Doses} doses */
function mapCard(doses) {
  const open = (/** @type {number} */ layer, /** @type {number} */ index, /** @type {number} */ place) => {
    location.hash = address("look", [doses.circuits[place].id, "neuron", `${layer}.${index}`]);
  };
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Where each circuit turns", explain("doses_map")),
    drawDoses(doses, open),
  );
}

/** @param {Doses} doses */
function tableCard({ circuits, rows }) {
  const count = (/** @type {Doses["rows"][number]} */ [, , doses]) => doses.filter((dose) => dose !== null).length;
  const size = (/** @type {Doses["rows"][number]} */ [, , doses]) =>
    Math.max(...doses.map((dose) => Math.abs(dose ?? 0)));
  const ranked = [...rows].sort((one, other) => count(other) - count(one) || size(other) - size(one));
  const largest = Math.max(...rows.map(size), 1e-9);
  const shared = rows.filter((row) => count(row) > 1).length;
  const cut = ranked.length > SHOWN ? `; the first ${SHOWN} are listed` : "";
  const drawn = ranked.slice(0, SHOWN).map(([layer, index, doses]) =>
    h(
      "tr",
      {},
      h("td", {}, layer),
      h("td", {}, neuronLink(circuits, doses, `${layer}.${index}`, shortName(layer, index))),
      doses.map((dose) =>
        h(
          "td",
          { class: "signed" },
          dose === null ? "–" : [bar(dose < 0 ? "down" : "up", Math.abs(dose) / largest), h("span", {}, number(dose))],
        ),
      ),
    ),
  );
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Neuron by neuron", explain("dose")),
    h("p", { class: "faint" }, `${rows.length} neurons, ${shared} of them in more than one circuit${cut}.`),
    scroll("Doses by neuron", table(["layer", "neuron", ...circuits.map(({ name }) => name)], drawn)),
  );
}

/** @param {Doses["circuits"]} circuits @param {(number | null)[]} doses @param {string} name @param {string} index */
function neuronLink(circuits, doses, name, index) {
  const { id } = circuits[doses.findIndex((dose) => dose !== null)];
  return h("a", { href: address("look", [id, "neuron", name]) }, index);
}
