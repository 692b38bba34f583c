// What a neuron is called. The server counts a layer's neurons through: the dense MLP's first, then expert by expert.
/** @import { Model } from "../../types/views.d.ts" */

/** @type {Model["experts"]} */
let experts = [];

/** @param {Model["experts"]} found of the model, by layer */
export function rememberExperts(found) {
  experts = found;
}

/**
 * The expert of a neuron (null for a dense MLP) and its index there.
 * @param {number} layer @param {number} place in the layer
 * @returns {[expert: number | null, index: number]}
 */
function partsOf(layer, place) {
  const [dense, width] = experts[layer] ?? [Infinity, 1];
  return place < dense ? [null, place] : [Math.floor((place - dense) / width), (place - dense) % width];
}

/** A neuron in its layer, such as 7, or e3.7 in expert 3. @param {number} layer @param {number} place */
export function shortName(layer, place) {
  const [expert, index] = partsOf(layer, place);
  return expert === null ? String(index) : `e${expert}.${index}`;
}

/** The same in words. @param {number} layer @param {number} place */
export function longName(layer, place) {
  const [expert, index] = partsOf(layer, place);
  return expert === null ? `neuron ${index}` : `expert ${expert}, neuron ${index}`;
}
