// Every circuit of the studio.
import { fill, h } from "../dom.js";
import { openButton } from "../files.js";
import { blank, loading, problem } from "../messages.js";
import { address } from "../route.js";
import { listCircuits } from "../server.js";
import { MOST } from "./doses.js";
/** @import { CircuitEntry } from "../../../types/views.d.ts" */
/** @import { Visit } from "./look.js" */

const ORIGINS = { command: "came with the command", ready: "came with the package", saved: "saved" };

/** @param {HTMLElement} main @param {Visit} visit */
export async function listPage(main, visit) {
  fill(main, loading());
  try {
    const circuits = await listCircuits();
    if (visit.isOver) {
      return;
    }
    if (circuits.length === 1) {
      location.replace(address("look", [circuits[0].id]));
      return;
    }
    fill(main, circuits.length ? drawList(circuits) : nothingYet());
  } catch (error) {
    fill(main, problem(error));
  }
}

/** @param {CircuitEntry[]} circuits */
function drawList(circuits) {
  const several = address("look", [
    circuits
      .map(({ id }) => id)
      .slice(0, MOST)
      .join(","),
    "doses",
  ]);
  return h(
    "div",
    { class: "page" },
    h(
      "div",
      { class: "row spread" },
      h("h1", {}, "Circuits"),
      h("div", { class: "row" }, openButton(), h("a", { class: "button primary", href: several }, "Doses on one map")),
    ),
    h("ul", { class: "cards" }, circuits.map(drawEntry)),
  );
}

/** @param {CircuitEntry} circuit */
function drawEntry({ id, name, neurons, direction, origin }) {
  return h(
    "li",
    { class: "card" },
    h("h2", {}, h("a", { href: address("look", [id]) }, name)),
    h("p", { class: "faint" }, `${neurons} neurons · dial 1 ${direction}s · ${ORIGINS[origin]}`),
  );
}

function nothingYet() {
  const text = "Find one from contrast prompts, or start the studio with --circuit name=file.";
  const discover = h("a", { class: "button primary", href: "#/discover" }, "Discover a circuit");
  return blank("No circuits yet", text, discover, openButton());
}
