// Layer by rank: every neuron of the model as one cell, strongest first in its layer. Drawn once into an image, so
// that hovering over 50,000 neurons only moves a frame.
import { h } from "../dom.js";
import { grouped, number, within } from "../numbers.js";
import { blankDrawing, LEFT, redrawn } from "./canvas.js";
import { drawAxes, drawMarks, paintCells } from "./paint.js";
import { longName } from "../names.js";
/** @import { Cell, MapScores } from "../../../types/page.d.ts" */

const BOTTOM = 22; // pixels for the labels below
const HIGHEST = 440; // pixels of all rows together, where rows need not be lower than they can be read
const ZOOMS = [64, 256]; // ranks that may be shown, beside all
const IDLE = "Point at a neuron";
/** @type {Record<string, [down: number, right: number]>} */
const MOVES = {
  ArrowRight: [0, 1],
  ArrowLeft: [0, -1],
  ArrowDown: [1, 0],
  ArrowUp: [-1, 0],
  Home: [0, -1e6],
  End: [0, 1e6],
};

/**
 * @param {MapScores} scores
 * @param {((layer: number, index: number) => void) | null} onpick a neuron was chosen with a click or Enter
 */
export const drawMap = (scores, onpick) => new NeuronMap(scores, onpick).element;

class NeuronMap {
  /** @param {MapScores} scores @param {((layer: number, index: number) => void) | null} onpick */
  constructor(scores, onpick) {
    this.scores = scores;
    this.onpick = onpick;
    this.chosen = new Set(scores.chosen.map(([layer, rank, expert]) => keyOf({ layer, expert }, rank)));
    this.removed = new Set(scores.removed.map(([layer, rank, expert]) => keyOf({ layer, expert }, rank)));
    this.layout = { width: 0, height: 0, shown: this.#firstShown(), cell: 1, row: 8 };
    /** @type {Cell | null} */
    this.at = null;
    this.says = h("output", { class: "map-says" }, IDLE);
    this.frame = h("div", { class: "map-frame", hidden: true });
    this.canvas = h("canvas", { class: "map", tabindex: "0", role: "application", "aria-label": this.#label() });
    this.box = h("div", { class: "map-box" }, this.canvas, this.frame);
    this.zoom = this.#zoom();
    this.element = this.#figure();
    this.#listen();
    redrawn(this.box, this.canvas, () => this.draw());
  }

  get columns() {
    return Math.max(...this.scores.layers.map(({ index }) => index.length));
  }

  /** As many ranks as hold everything that is marked. */
  #firstShown() {
    const { chosen, removed } = this.scores;
    const last = Math.max(0, ...[...chosen, ...removed].map(([, rank]) => rank));
    return ZOOMS.find((zoom) => last < zoom && this.columns > zoom) ?? this.columns;
  }

  #label() {
    const { neurons, layers } = this.scores;
    const rows = layers.some(({ expert }) => expert !== null) ? "rows of layers and experts" : "layers";
    const size = `Map of ${grouped(neurons)} neurons: ${layers.length} ${rows} by rank`;
    return `${size}; ${this.chosen.size} are in the circuit. Walk with the arrow keys, Enter opens a neuron.`;
  }

  #zoom() {
    const { columns } = this;
    const zooms = [...ZOOMS.filter((ranks) => ranks < columns), columns];
    const options = zooms.map((value) =>
      h("option", { value }, value === columns ? `all ${value} ranks` : `first ${value} ranks`),
    );
    const zoom = h("select", { "aria-label": "Ranks shown", class: "map-zoom" }, options);
    zoom.value = String(this.layout.shown);
    return zoom;
  }

  #figure() {
    return h(
      "figure",
      { class: "map-figure" },
      h("div", { class: "row spread" }, this.says, this.zoom),
      this.box,
      h(
        "figcaption",
        { class: "row faint" },
        key("strong", "+ score"),
        key("weak", "− score"),
        key("ring", "in the circuit"),
        key("cross", "universal, removed"),
      ),
    );
  }

  draw() {
    const width = this.box.clientWidth;
    if (!width) {
      return;
    }
    const rows = this.scores.layers.length;
    const { shown } = this.layout;
    const row = within(Math.floor(HIGHEST / rows), 6, 22);
    this.layout = { width, height: rows * row + BOTTOM, shown, cell: (width - LEFT) / shown, row };
    const ink = blankDrawing(this.canvas, width, this.layout.height);
    paintCells(ink, this.scores, this.layout);
    drawMarks(ink, this.scores, this.layout, (layer, rank) => this.#markOf(layer, rank));
    drawAxes(ink, this.scores, this.layout);
    this.point(this.at);
  }

  /** @param {MapRow} row @param {number} rank */
  #markOf(row, rank) {
    const name = keyOf(row, rank);
    if (this.chosen.has(name)) {
      return "chosen";
    }
    return this.removed.has(name) ? "removed" : null;
  }

  /** @param {Cell | null} cell */
  point(cell) {
    this.at = cell;
    this.frame.hidden = !cell;
    this.says.textContent = cell ? this.#describe(cell) : IDLE;
    if (cell) {
      const { cell: wide, row } = this.layout;
      this.frame.style.transform = `translate(${LEFT + cell.rank * wide - 1}px, ${cell.row * row - 1}px)`;
      this.frame.style.width = `${Math.max(5, wide) + 1}px`;
      this.frame.style.height = `${row + 1}px`;
    }
  }

  /** @param {Cell} cell */
  #describe({ row, rank }) {
    const { layer, expert, index, score } = this.scores.layers[row];
    const states = { chosen: " · in the circuit", removed: " · universal, removed" };
    const mark = this.#markOf({ layer, expert }, rank);
    const place = `layer ${layer} · ${longName(layer, index[rank])} · rank ${rank + 1}`;
    return `${place} · score ${number(score[rank], 4)}${mark ? states[mark] : ""}`;
  }

  /** @param {MouseEvent} event @returns {Cell | null} */
  #under(event) {
    const edge = this.canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - edge.top) / this.layout.row);
    const rank = Math.floor((event.clientX - edge.left - LEFT) / this.layout.cell);
    const layer = this.scores.layers[row];
    return layer && rank >= 0 && rank < layer.index.length ? { row, rank } : null;
  }

  /** @param {Cell | null} cell */
  #pick(cell) {
    if (cell && this.onpick) {
      const { layer, index } = this.scores.layers[cell.row];
      this.onpick(layer, index[cell.rank]);
    }
  }

  #listen() {
    /** @type {PointerEvent | null} */
    let pending = null;
    this.canvas.addEventListener("pointermove", (event) => {
      if (!pending) {
        requestAnimationFrame(() => {
          this.point(pending && this.#under(pending));
          pending = null;
        });
      }
      pending = event;
    });
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("click", (event) => this.#pick(this.#under(event)));
    this.canvas.addEventListener("keydown", (event) => this.#walk(event));
    this.zoom.addEventListener("change", () => {
      this.layout.shown = Number(this.zoom.value);
      this.draw();
    });
  }

  /** @param {KeyboardEvent} event */
  #walk(event) {
    if (event.key === "Enter") {
      this.#pick(this.at);
    }
    if (!(event.key in MOVES)) {
      return;
    }
    event.preventDefault();
    if (!this.at) {
      this.point({ row: 0, rank: 0 });
      return;
    }
    const [down, right] = MOVES[event.key];
    const row = within(this.at.row + down, 0, this.scores.layers.length - 1);
    const last = Math.min(this.layout.shown, this.scores.layers[row].index.length) - 1;
    this.point({ row, rank: within(this.at.rank + right, 0, last) });
  }
}

/** @typedef {{ layer: number, expert?: number | null }} MapRow */

/** @param {MapRow} row @param {number} rank */
const keyOf = ({ layer, expert }, rank) => `${layer}:${expert ?? ""}:${rank}`;

/** @param {string} kind @param {string} text */
export function key(kind, text) {
  return h("span", { class: "key" }, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), text);
}
