// Counts of scores on a logarithmic axis, the chosen ones marked, with the cut-off.
import { h } from "../dom.js";
import { grouped, number, within } from "../numbers.js";
import { blankDrawing, colour, FONT, LEFT, redrawn } from "./canvas.js";
import { drawLine } from "./paint.js";
/** @import { Histogram } from "../../../types/views.d.ts" */

const HIGH = 170; // pixels
const FLOOR = HIGH - 20; // where bars stand
const COMPACT = new Intl.NumberFormat("en", { notation: "compact" }); // 10K: five digits do not fit beside the bars

/** @param {Histogram} histogram @param {number | null} cutoff */
export function drawHistogram(histogram, cutoff) {
  const { low, high, counts, chosen } = histogram;
  const range = `Distribution of scores from ${number(low)} to ${number(high)}`;
  const label = `${range}; the cut-off is ${number(cutoff)}`;
  const idle = `cut-off at ± ${number(cutoff, 4)}`;
  const canvas = h("canvas", { class: "histogram", tabindex: "0", role: "application", "aria-label": label });
  const says = h("output", { class: "map-says" }, idle);
  const box = h("div", {}, canvas);
  let at = -1; // the bin that the arrow keys have come to
  const say = (/** @type {number} */ bin) => {
    if (bin >= 0 && bin < counts.length) {
      at = bin;
      const step = (high - low) / counts.length;
      const edges = `${number(low + bin * step)} to ${number(low + (bin + 1) * step)}`;
      says.textContent = `${edges}: ${grouped(counts[bin])} neurons, ${chosen[bin]} chosen`;
    }
  };
  const rest = () => {
    says.textContent = idle;
  };
  canvas.addEventListener("pointermove", (event) => {
    const edge = canvas.getBoundingClientRect();
    say(Math.floor(((event.clientX - edge.left - LEFT) / (edge.width - LEFT)) * counts.length));
  });
  canvas.addEventListener("pointerleave", rest);
  canvas.addEventListener("blur", rest);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -1e6, End: 1e6 }[event.key];
    if (step !== undefined) {
      event.preventDefault();
      say(within(at + step, 0, counts.length - 1));
    }
  });
  redrawn(box, canvas, () => {
    if (box.clientWidth) {
      draw(blankDrawing(canvas, box.clientWidth, HIGH), box.clientWidth, histogram, cutoff);
    }
  });
  return h("figure", { class: "map-figure" }, says, box, caption());
}

function caption() {
  return h(
    "figcaption",
    { class: "row faint" },
    h("span", { class: "key" }, h("span", { class: "swatch all" }), "all neurons"),
    h("span", { class: "key" }, h("span", { class: "swatch chosen" }), "in the circuit"),
    h("span", {}, "neurons on a logarithmic axis"),
  );
}

/**
 * @param {CanvasRenderingContext2D} ink
 * @param {number} width
 * @param {Histogram} histogram
 * @param {number | null} cutoff
 */
function draw(ink, width, { low, high, counts, chosen }, cutoff) {
  const top = Math.log10(Math.max(...counts) + 1);
  const tall = (/** @type {number} */ count) => (Math.log10(count + 1) / top) * (FLOOR - 8);
  const wide = (width - LEFT) / counts.length;
  counts.forEach((count, bin) => {
    const x = LEFT + bin * wide;
    ink.fillStyle = colour("--line");
    ink.fillRect(x, FLOOR - tall(count), wide - 1, tall(count));
    ink.fillStyle = colour("--steered");
    ink.fillRect(x, FLOOR - tall(chosen[bin]), wide - 1, tall(chosen[bin]));
  });
  const across = (/** @type {number} */ score) => LEFT + ((score - low) / (high - low)) * (width - LEFT);
  if (cutoff !== null) {
    drawCutoff(ink, [-cutoff, cutoff].filter((line) => line >= low && line <= high).map(across));
  }
  ink.fillStyle = colour("--faint");
  ink.font = FONT;
  ink.textAlign = "right";
  for (let power = 0; 10 ** power <= 10 ** top; power += 1) {
    ink.fillText(COMPACT.format(10 ** power), LEFT - 5, FLOOR - tall(10 ** power) + 4);
  }
  drawScores(ink, width, { low, high, zero: across(0) });
}

/** @param {CanvasRenderingContext2D} ink @param {number[]} places */
function drawCutoff(ink, places) {
  ink.strokeStyle = colour("--ink");
  ink.setLineDash([3, 3]);
  for (const x of places) {
    drawLine(ink, [x, 0], [x, FLOOR]);
  }
}

/**
 * The numbers below.
 * @param {CanvasRenderingContext2D} ink
 * @param {number} width
 * @param {{ low: number, high: number, zero: number }} scores the ends, and where zero lies across
 */
function drawScores(ink, width, { low, high, zero }) {
  const base = HIGH - 5;
  ink.textAlign = "left";
  ink.fillText(number(low), LEFT, base);
  ink.textAlign = "right";
  ink.fillText(number(high), width - 1, base);
  if (low < 0 && high > 0) {
    ink.textAlign = "center";
    ink.fillText("0", zero, base);
  }
}
