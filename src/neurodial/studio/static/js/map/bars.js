// Small drawings of a circuit: how many neurons lie in each layer, how much of it is chosen again without each fold.
import { h } from "../dom.js";
/** @import { Stability } from "../../../types/views.d.ts" */

/** @param {number[]} counts neurons by layer */
export function layerBars(counts) {
  const top = Math.max(1, ...counts);
  const every = Math.ceil(counts.length / 10);
  const said = counts.map((count, layer) => (count ? `layer ${layer} ${count}` : "")).filter(Boolean);
  return h(
    "div",
    { class: "layers", role: "img", "aria-label": `Neurons by layer: ${said.join(", ")}` },
    counts.map((count, layer) =>
      h(
        "span",
        { title: `layer ${layer}: ${count}` },
        h("i", { style: { height: `${(100 * count) / top}%` } }),
        layer % every === 0 ? h("b", {}, layer) : null,
      ),
    ),
  );
}

/** @param {Stability} stability */
export function folds({ overlaps }) {
  const shares = overlaps.map((overlap) => `${Math.round(100 * overlap)} %`);
  return h(
    "div",
    { class: "folds", role: "img", "aria-label": `Overlap without each fold: ${shares.join(", ")}` },
    overlaps.map((overlap, fold) =>
      h(
        "span",
        { title: `without fold ${fold + 1}: ${shares[fold]} chosen again` },
        h("i", { style: { height: `${100 * overlap}%` } }),
      ),
    ),
  );
}
