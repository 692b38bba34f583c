// The form of an export: which circuit, at which dial, in which form.
import { field, form, select } from "../controls.js";
import { dial } from "../dial.js";
import { fill, h } from "../dom.js";
import { keep, recall, switchedOff } from "../keep.js";
/** @import { Option } from "../../../types/page.d.ts" */
/** @import { ExportRequest } from "../../../types/requests.d.ts" */
/** @import { CircuitEntry, ExportFormat } from "../../../types/views.d.ts" */

/** @typedef {{ circuit: string, dial: number, route: string }} ExportForm */

const HELP = "Files that other engines load, checked against the circuit in this model before they are called done.";

/** @param {URLSearchParams} query @returns {ExportForm} */
export function readForm(query) {
  /** @type {ExportForm} */
  const kept = { circuit: "", dial: 1, route: "lora", ...recall("export", {}) };
  const route = query.get("route");
  const dialled = query.get("c");
  return { ...kept, ...(route ? { route } : {}), ...(dialled ? readDialled(dialled) : {}) };
}

/** @param {string} text id@dial */
function readDialled(text) {
  const [circuit, value] = text.split("@");
  const turned = Number(value ?? 1);
  return Number.isFinite(turned) && value !== undefined ? { circuit, dial: turned } : { circuit };
}

/** @param {ExportForm} values @returns {ExportRequest} */
export function askedExport({ circuit, dial: turned, route }) {
  return { circuits: [{ id: circuit, dial: turned, off: switchedOff(circuit) }], route, name: circuit };
}

export class Form {
  /**
   * @param {ExportForm} values changed in place, and kept
   * @param {CircuitEntry[]} circuits at least one
   * @param {ExportFormat[]} formats what the server offers
   * @param {{ onrun: () => void, onchange: () => void }} doings
   */
  constructor(values, circuits, formats, { onrun, onchange }) {
    this.values = values;
    this.circuits = circuits;
    this.formats = formats;
    this.onchange = onchange;
    this.startButton = h("button", { type: "submit", class: "primary" }, "Write and check");
    this.element = form("side", onrun);
    this.draw();
  }

  draw() {
    const off = switchedOff(this.circuit.id).length;
    /** @type {Option[]} */
    const options = this.circuits.map(({ id, name, neurons }) => [id, `${name} (${neurons} neurons)`]);
    const choose = (/** @type {string} */ circuit) => {
      this.#set({ circuit });
      this.draw();
    };
    fill(
      this.element,
      h("h1", {}, "Export"),
      h("p", { class: "faint" }, HELP),
      field("Circuit", select(options, this.circuit.id, choose)),
      dial({ ...this.circuit, value: this.values.dial, off }, (value) => this.#set({ dial: value }), null),
      off ? h("p", { class: "note" }, `${off} neurons are switched off; they are left out of the export.`) : null,
      this.#formats(),
      h("div", { class: "row" }, this.startButton),
    );
  }

  /** The chosen circuit; the first where that is no longer there. */
  get circuit() {
    return this.circuits.find(({ id }) => id === this.values.circuit) || this.circuits[0];
  }

  #formats() {
    const choices = this.formats.map(({ name, title, summary }) => {
      const input = h("input", {
        type: "radio",
        name: "route",
        value: name,
        checked: this.values.route === name,
        onchange: () => this.#set({ route: name }),
      });
      return h("label", { class: "choice" }, input, h("span", {}, h("strong", {}, title), h("small", {}, summary)));
    });
    return h("fieldset", {}, h("legend", {}, "As"), choices);
  }

  /** @param {Partial<ExportForm>} changed */
  #set(changed) {
    Object.assign(this.values, changed);
    keep("export", this.values);
    this.onchange();
  }
}
