// What this browser remembers between visits.
/** @import { Neuron } from "../../types/page.d.ts" */

/**
 * @template T
 * @param {string} key
 * @param {T} otherwise
 * @returns {T} what was kept, of whatever shape it had then
 */
export function recall(key, otherwise) {
  try {
    const text = localStorage.getItem(`neurodial.${key}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** @param {string} key @param {unknown} value */
export function keep(key, value) {
  try {
    localStorage.setItem(`neurodial.${key}`, JSON.stringify(value));
  } catch {
    /* a private window: nothing is kept */
  }
}

// Neurons that are switched off, by circuit: shared by Look and Chat.
/** @type {Record<string, Neuron[]>} */
const off = recall("off", {});

/** @param {string} circuit */
export const switchedOff = (circuit) => off[circuit] || [];

/** @param {string} circuit @param {Neuron[]} neurons */
export function setSwitchedOff(circuit, neurons) {
  if (neurons.length) {
    off[circuit] = neurons;
  } else {
    delete off[circuit];
  }
  keep("off", off);
}
