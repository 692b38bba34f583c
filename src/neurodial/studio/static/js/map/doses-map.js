// Layer by index: a mark for every neuron of several circuits, in a lane for each circuit, as tall as its dose.
import { h } from "../dom.js";
import { grouped, number, within } from "../numbers.js";
import { blankDrawing, colour, FONT, LEFT, redrawn } from "./canvas.js";
import { longName } from "../names.js";
/** @import { Doses } from "../../../types/views.d.ts" */

const HUES = [24, 212, 140, 290, 52, 180]; // of the circuits in their order
const BOTTOM = 22; // pixels for the labels below
const HIGHEST = 620; // pixels of all rows together, where lanes need not be lower than they can be read
const MARK = 4; // pixels across
const NEAR = 6; // pixels from a mark at which it is meant
const IDLE = "Point at a mark, or walk from mark to mark with the arrow keys";

/** @param {number} place of the circuit */
export const hueOf = (place) => `hsl(${HUES[place % HUES.length]} 75% 50%)`;

/**
 * @param {Doses} doses
 * @param {(layer: number, index: number, place: number) => void} onpick a neuron was chosen; of which circuit
 */
export const drawDoses = (doses, onpick) => new DosesMap(doses, onpick).element;

class DosesMap {
  /** @param {Doses} doses @param {(layer: number, index: number, place: number) => void} onpick */
  constructor(doses, onpick) {
    this.doses = doses;
    this.onpick = onpick;
    this.width = 0;
    this.at = -1; // the row of the doses that is meant
    const { rows, widths, circuits } = doses;
    this.largest = Math.max(...rows.flatMap(([, , values]) => values.map((value) => Math.abs(value ?? 0))), 1e-9);
    this.lane = within(Math.floor(HIGHEST / widths.length / circuits.length), 3, 12);
    this.row = this.lane * circuits.length + 3;
    this.says = h("output", { class: "map-says" }, IDLE);
    const names = circuits.map(({ name }) => name).join(", ");
    const label = `Doses of ${names} on ${rows.length} neurons; the table has them all`;
    this.canvas = h("canvas", { class: "map", tabindex: "0", role: "application", "aria-label": label });
    const box = h("div", { class: "map-box" }, this.canvas);
    this.element = h("figure", { class: "map-figure" }, this.says, box, this.#caption());
    this.#listen();
    redrawn(box, this.canvas, () => {
      this.width = box.clientWidth;
      this.#draw();
    });
  }

  #caption() {
    const keys = this.doses.circuits.map(({ name }, place) =>
      h("span", { class: "key" }, h("span", { class: "swatch", style: { background: hueOf(place) } }), name),
    );
    const text = `as tall as the dose, up to ${number(this.largest)}; hollow: turned up instead of down`;
    return h("figcaption", { class: "row faint" }, keys, h("span", {}, text));
  }

  /** Where a neuron lies across. @param {number} layer @param {number} index */
  #x(layer, index) {
    return LEFT + ((index + 0.5) / this.doses.widths[layer]) * (this.width - LEFT);
  }

  #draw() {
    const { widths, rows } = this.doses;
    if (!this.width) {
      return;
    }
    const height = widths.length * this.row + BOTTOM;
    const ink = blankDrawing(this.canvas, this.width, height);
    this.#axes(ink, height);
    for (const [layer, index, values] of rows) {
      values.forEach((value, place) => {
        if (value !== null) {
          this.#mark(ink, [this.#x(layer, index), layer * this.row + place * this.lane], value, place);
        }
      });
    }
    const meant = rows[this.at];
    if (meant) {
      const [layer, index] = meant;
      ink.strokeStyle = colour("--ink");
      ink.lineWidth = 1.5;
      ink.strokeRect(this.#x(layer, index) - MARK, layer * this.row - 1, 2 * MARK, this.row);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} ink
   * @param {[number, number]} corner
   * @param {number} dose
   * @param {number} place of the circuit
   */
  #mark(ink, [x, y], dose, place) {
    const full = this.lane - 1;
    const tall = Math.max(1.5, (full * Math.abs(dose)) / this.largest);
    const box = /** @type {const} */ ([x - MARK / 2, y + full - tall, MARK, tall]);
    if (dose < 0) {
      ink.strokeStyle = hueOf(place);
      ink.lineWidth = 1;
      ink.strokeRect(box[0] + 0.5, box[1] + 0.5, box[2] - 1, Math.max(1, box[3] - 1));
    } else {
      ink.fillStyle = hueOf(place);
      ink.fillRect(...box);
    }
  }

  /** @param {CanvasRenderingContext2D} ink @param {number} height */
  #axes(ink, height) {
    const { widths } = this.doses;
    ink.font = FONT;
    const every = Math.ceil(14 / this.row);
    widths.forEach((_, layer) => {
      if (layer % 2) {
        ink.fillStyle = colour("--sunk");
        ink.fillRect(LEFT, layer * this.row - 1, this.width - LEFT, this.row);
      }
      if (layer % every === 0) {
        ink.fillStyle = colour("--faint");
        ink.textAlign = "right";
        ink.textBaseline = "middle";
        ink.fillText(String(layer), LEFT - 6, (layer + 0.5) * this.row);
      }
    });
    ink.fillStyle = colour("--faint");
    ink.textBaseline = "bottom";
    ink.textAlign = "left";
    ink.fillText("index 0", LEFT, height - 2);
    ink.textAlign = "right";
    ink.fillText(grouped(Math.max(...widths) - 1), this.width, height - 2);
  }

  #listen() {
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerleave", () => this.#mean(-1));
    this.canvas.addEventListener("click", (event) => {
      this.#point(event);
      this.#pick();
    });
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -1e6, End: 1e6 }[event.key];
      if (step !== undefined) {
        event.preventDefault();
        this.#mean(within(this.at + step, 0, this.doses.rows.length - 1));
      } else if (event.key === "Enter") {
        this.#pick();
      }
    });
  }

  /** @param {MouseEvent} event */
  #point(event) {
    const edge = this.canvas.getBoundingClientRect();
    const layer = Math.floor((event.clientY - edge.top) / this.row);
    const x = event.clientX - edge.left;
    let nearest = -1;
    let distance = NEAR;
    this.doses.rows.forEach(([of, index], place) => {
      const away = of === layer ? Math.abs(this.#x(of, index) - x) : Infinity;
      if (away < distance) {
        [nearest, distance] = [place, away];
      }
    });
    this.#mean(nearest);
  }

  /** @param {number} place the row of the doses, or -1 */
  #mean(place) {
    if (place === this.at) {
      return;
    }
    this.at = place;
    const meant = this.doses.rows[place];
    this.says.textContent = meant ? this.#words(meant) : IDLE;
    this.#draw();
  }

  /** @param {Doses["rows"][number]} row */
  #words([layer, index, values]) {
    const said = values.flatMap((value, place) =>
      value === null ? [] : [`${this.doses.circuits[place].name} ${number(value)}`],
    );
    return `layer ${layer}, ${longName(layer, index)}: ${said.join(", ")}`;
  }

  #pick() {
    const meant = this.doses.rows[this.at];
    if (meant) {
      const [layer, index, values] = meant;
      this.onpick(
        layer,
        index,
        values.findIndex((value) => value !== null),
      );
    }
  }
}
