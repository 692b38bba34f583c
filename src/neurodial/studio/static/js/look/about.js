// How sure a circuit is, what it costs, and how it was made.
import { h } from "../dom.js";
import { explain } from "../explain.js";
import { folds } from "../map/bars.js";
import { number, percent, visible } from "../numbers.js";
import { shortName } from "../names.js";
/** @import { Circuit, MethodReport, Stability, Universal } from "../../../types/views.d.ts" */

/** @param {Circuit} circuit */
export function aboutCard(circuit) {
  const { stability, universal, report } = circuit;
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "How sure, and at what cost"),
    stability ? drawStability(stability) : h("p", { class: "faint" }, "Stability was not measured."),
    universal ? drawUniversal(universal) : null,
    report ? drawReport(report) : null,
    drawOrigin(circuit),
  );
}

/** @param {Stability} stability */
function drawStability(stability) {
  const rest = ` of the neurons are chosen again without a fold (lowest ${percent(stability.low)})`;
  return h(
    "div",
    { class: "row" },
    folds(stability),
    h("p", {}, h("strong", {}, percent(stability.mean)), rest, explain("stability")),
  );
}

/** @param {Universal} universal */
function drawUniversal({ flagged, removed }) {
  const names = removed.map(([layer, index]) => `${layer}.${shortName(layer, index)}`).join(", ");
  return h(
    "p",
    {},
    `${flagged} universal neurons flagged, ${removed.length} of them kept out of the circuit`,
    explain("universal"),
    removed.length
      ? h("details", {}, h("summary", { class: "faint" }, "which"), h("p", { class: "faint" }, names))
      : null,
  );
}

/** @param {MethodReport} report */
function drawReport({ measured, predicted, openers }) {
  const margin = `margin ${number(measured.margin_before)} → ${number(measured.margin)}`;
  const foretold = predicted ? ` (each neuron's own, summed: ${number(predicted.divergence_diagonal)})` : "";
  const damage = `damage ${number(measured.divergence)} nats per token${foretold}`;
  return [
    h("p", {}, `At dial 1 on development prompts: ${margin}; ${damage}`),
    openers
      ? h(
          "p",
          { class: "faint" },
          "Openers: ",
          openers.map((text, place) => [place ? " · " : "", h("code", {}, visible(text))]),
        )
      : null,
  ];
}

/** @param {Circuit} circuit */
function drawOrigin({ method, prompts, created }) {
  const facts = Object.entries({ ...method, ...prompts, created });
  return h(
    "details",
    {},
    h("summary", { class: "faint" }, "How it was made"),
    h(
      "dl",
      {},
      facts.map(([key, value]) => [h("dt", {}, key.replaceAll("_", " ")), h("dd", {}, String(value))]),
    ),
  );
}
