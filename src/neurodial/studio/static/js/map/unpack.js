// Scores travel as base64 of little-endian numbers: 50,000 neurons are 400 kB, not megabytes.
/** @import { MapScores } from "../../../types/page.d.ts" */
/** @import { Scores } from "../../../types/views.d.ts" */

/** @param {string} text */
const decoded = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;

/** @param {Scores} scores @returns {MapScores} */
export function unpack({ neurons, largest, layers, chosen, removed }) {
  const unpacked = layers.map(({ layer, expert, width, index, score }) => ({
    layer,
    expert: expert ?? null,
    width,
    index: new Uint32Array(decoded(index)),
    score: new Float32Array(decoded(score)),
  }));
  return { neurons, largest, layers: unpacked, chosen, removed };
}
