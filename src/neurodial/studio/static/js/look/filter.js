// What may be written above the table of neurons: "layer 29", "20-29", "29.741", "2.e3" (an expert), "> 2", "off".
import { shortName } from "../names.js";
/** @import { CircuitRow } from "../../../types/views.d.ts" */

/** @typedef {(row: CircuitRow) => boolean} Test */

/** A neuron as it is written: layer.index. @param {CircuitRow} row */
export const nameOf = ([layer, index]) => `${layer}.${index}`;

/**
 * Which rows a filter keeps; null where it is not understood, or not yet: it may still be being written.
 * @param {string} text
 * @param {Set<string>} off names of the neurons that are switched off
 * @returns {Test | null}
 */
export function filterOf(text, off) {
  const words = text.trim().toLowerCase();
  if (!words) {
    return () => true;
  }
  if (words === "off") {
    return (row) => off.has(nameOf(row));
  }
  if (/^\d+\.(e\d*\.?)?\d*$/.test(words)) {
    return ([layer, index]) => `${layer}.${shortName(layer, index)}`.startsWith(words);
  }
  return ofNumber(words) || ofRange(words) || ofScore(words);
}

/** "layer 29", or "29" for the layer or the index. @param {string} words @returns {Test | null} */
function ofNumber(words) {
  const found = words.match(/^(layer )?(\d+)$/);
  if (!found) {
    return null;
  }
  const [, word, digits] = found;
  return ([layer, index]) => String(layer) === digits || (!word && String(index) === digits);
}

/** "20-29". @param {string} words @returns {Test | null} */
function ofRange(words) {
  const found = words.match(/^(\d+)\s*-\s*(\d+)$/);
  return found && (([layer]) => layer >= Number(found[1]) && layer <= Number(found[2]));
}

/** "> 2". @param {string} words @returns {Test | null} */
function ofScore(words) {
  const found = words.match(/^([<>])\s*(-?[\d.]+)$/);
  if (!found) {
    return null;
  }
  const limit = Number(found[2]);
  return ([, , score]) => (found[1] === ">" ? score > limit : score < limit);
}
