// The map of neurons on its canvas: cells, what is marked, and axes.
import { colour, FONT, LEFT, pixelRatio } from "./canvas.js";
/** @import { LayerScores, MapScores } from "../../../types/page.d.ts" */

/**
 * How the map is laid out, in page pixels. `shown`: ranks; `cell`: width of a neuron; `row`: height of a layer.
 * @typedef {object} Layout
 * @property {number} width
 * @property {number} height
 * @property {number} shown
 * @property {number} cell
 * @property {number} row
 */

/** @typedef {[red: number, green: number, blue: number]} Colour */

/**
 * The cells as one image at the canvas's own resolution: the strongest neuron under each pixel decides its colour.
 * @param {CanvasRenderingContext2D} ink @param {MapScores} scores @param {Layout} layout
 */
export function paintCells(ink, scores, layout) {
  const ratio = pixelRatio();
  const across = Math.round((layout.width - LEFT) * ratio);
  const full = Math.round(layout.row * ratio);
  const high = Math.max(1, full - 1);
  const image = ink.createImageData(across, full * scores.layers.length);
  const words = new Uint32Array(image.data.buffer);
  const mixed = mixer(scores.largest || 1);
  scores.layers.forEach((layer, place) => {
    const line = lineOf(layer, across, layout.shown, mixed);
    for (let y = 0; y < high; y += 1) {
      words.set(line, (place * full + y) * across);
    }
  });
  const buffer = new OffscreenCanvas(across, full * scores.layers.length);
  buffer.getContext("2d")?.putImageData(image, 0, 0);
  ink.imageSmoothingEnabled = false;
  ink.drawImage(buffer, LEFT, 0, layout.width - LEFT, layout.row * scores.layers.length);
}

/**
 * One line of pixels of a layer.
 * @param {LayerScores} layer @param {number} across @param {number} shown @param {(score: number) => number} mixed
 */
function lineOf({ score }, across, shown, mixed) {
  const line = new Uint32Array(across);
  for (let x = 0; x < across; x += 1) {
    const rank = Math.floor((x / across) * shown);
    if (rank < score.length) {
      line[x] = mixed(score[rank]);
    }
  }
  return line;
}

/**
 * The colour of a score, as the four bytes of a pixel: one hue for each sign, stronger with its size.
 * @param {number} largest
 */
function mixer(largest) {
  const [up, down, paper] = ["--up", "--down", "--sunk"].map((name) => rgb(colour(name)));
  return (/** @type {number} */ score) => {
    const strength = Math.sqrt(Math.min(1, Math.abs(score) / largest));
    const hue = score >= 0 ? up : down;
    const part = (/** @type {0 | 1 | 2} */ place) => mix(paper[place], hue[place], strength);
    return (255 << 24) | (part(2) << 16) | (part(1) << 8) | part(0);
  };
}

/** @param {number} from @param {number} to @param {number} share */
const mix = (from, to, share) => Math.round(from + (to - from) * share);

/** @param {string} text a colour as #rgb or #rrggbb @returns {Colour} */
function rgb(text) {
  const digits = text.trim().replace("#", "");
  const whole = digits.length === 3 ? [...digits].map((digit) => digit + digit).join("") : digits;
  const value = parseInt(whole, 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/**
 * Frames around neurons of the circuit, crosses over universal ones.
 * @param {CanvasRenderingContext2D} ink
 * @param {MapScores} scores
 * @param {Layout} layout
 * @param {(row: LayerScores, rank: number) => "chosen" | "removed" | null} markOf
 */
export function drawMarks(ink, scores, layout, markOf) {
  ink.strokeStyle = colour("--ink");
  ink.fillStyle = colour("--ink");
  ink.lineWidth = 1.2;
  scores.layers.forEach((line, place) => {
    for (let rank = 0; rank < Math.min(layout.shown, line.index.length); rank += 1) {
      const mark = markOf(line, rank);
      if (mark) {
        drawMark(ink, mark, layout, { x: LEFT + rank * layout.cell, y: place * layout.row });
      }
    }
  });
}

/**
 * @param {CanvasRenderingContext2D} ink
 * @param {"chosen" | "removed"} mark
 * @param {Layout} layout
 * @param {{ x: number, y: number }} at
 */
function drawMark(ink, mark, { cell, row }, { x, y }) {
  const wide = Math.max(3, cell);
  if (mark === "removed") {
    const right = x + Math.min(wide, row) - 1;
    drawLine(ink, [x + 1, y + 1], [right, y + row - 2]);
    drawLine(ink, [right, y + 1], [x + 1, y + row - 2]);
  } else if (cell < 5) {
    ink.fillRect(x, y + row - 4, wide, 3);
  } else {
    ink.strokeRect(x + 0.5, y + 0.5, wide - 1, row - 2);
  }
}

/** @param {CanvasRenderingContext2D} ink @param {[number, number]} from @param {[number, number]} to */
export function drawLine(ink, from, to) {
  ink.beginPath();
  ink.moveTo(...from);
  ink.lineTo(...to);
  ink.stroke();
}

/** @param {CanvasRenderingContext2D} ink @param {MapScores} scores @param {Layout} layout */
export function drawAxes(ink, scores, { width, height, shown, row }) {
  ink.fillStyle = colour("--faint");
  ink.font = FONT;
  ink.textAlign = "right";
  ink.textBaseline = "middle";
  const every = Math.ceil(14 / row);
  scores.layers.forEach(({ layer, expert }, place) => {
    if (place % every === 0) {
      ink.fillText(expert === null ? String(layer) : `${layer}.e${expert}`, LEFT - 6, (place + 0.5) * row);
    }
  });
  ink.textBaseline = "bottom";
  /** @type {CanvasTextAlign[]} */
  const aligned = ["left", "center", "center", "center", "right"];
  aligned.forEach((align, part) => {
    const rank = Math.round((part / 4) * shown);
    ink.textAlign = align;
    ink.fillText(part === 0 ? "rank 1" : String(rank), LEFT + (part / 4) * (width - LEFT), height - 2);
  });
}
