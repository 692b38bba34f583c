// The form of an export: which circuit, at which dial, in which form.
import { field, form, select } from "../controls.js";
import { dial } from "../dial.js";
import { fill, h } from "../dom.js";
import { keep, recall, switchedOff } from "../keep.js";
/** @import { Option } from "../../../types/page.d.ts" */
/** @import { Export } from "../../../types/requests.d.ts" */
/** @import { CircuitEntry } from "../../../types/views.d.ts" */

/** @typedef {{ circuit: string, dial: number, route: Export["route"] }} ExportForm */

/** @type {{ route: Export["route"], title: string, text: string }[]} */
const ROUTES = [
  {
    route: "lora",
    title: "LoRA adapter",
    text: "PEFT, transformers, vLLM. Its strength is the dial, so it stays a dial.",
  },
  { route: "ia3", title: "IA³ adapter", text: "PEFT. Exactly the scaling, fixed at this dial." },
  {
    route: "weights",
    title: "Whole model",
    text: "Any engine that takes the base model. Fixed at this dial, no cost at run time.",
  },
  {
    route: "vllm",
    title: "vLLM bundle",
    text: "A LoRA and what the vLLM plugin needs for a strength with each request.",
  },
  { route: "gguf-lora", title: "GGUF adapter", text: "llama.cpp and LM Studio. Its strength is the dial." },
  {
    route: "gguf",
    title: "Baked GGUF",
    text: "llama.cpp, Ollama, LM Studio. The GGUF file itself, fixed at this dial.",
  },
];
const HELP = "Files that other engines load, checked against the circuit in this model before they are called done.";

/** @param {URLSearchParams} query @returns {ExportForm} */
export function readForm(query) {
  /** @type {ExportForm} */
  const kept = { circuit: "", dial: 1, route: "lora", ...recall("export", {}) };
  const route = /** @type {Export["route"] | null} */ (query.get("route"));
  const dialled = query.get("c");
  return { ...kept, ...(route ? { route } : {}), ...(dialled ? readDialled(dialled) : {}) };
}

/** @param {string} text id@dial */
function readDialled(text) {
  const [circuit, value] = text.split("@");
  const turned = Number(value ?? 1);
  return Number.isFinite(turned) && value !== undefined ? { circuit, dial: turned } : { circuit };
}

/** @param {ExportForm} values @returns {Export} */
export function askedExport({ circuit, dial: turned, route }) {
  return { circuits: [{ id: circuit, dial: turned, off: switchedOff(circuit) }], route, name: circuit };
}

export class Form {
  /**
   * @param {ExportForm} values changed in place, and kept
   * @param {CircuitEntry[]} circuits at least one
   * @param {{ onrun: () => void, onchange: () => void }} doings
   */
  constructor(values, circuits, { onrun, onchange }) {
    this.values = values;
    this.circuits = circuits;
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
      this.#routes(),
      h("div", { class: "row" }, this.startButton),
    );
  }

  /** The chosen circuit; the first where that is no longer there. */
  get circuit() {
    return this.circuits.find(({ id }) => id === this.values.circuit) || this.circuits[0];
  }

  #routes() {
    const choices = ROUTES.map(({ route, title, text }) => {
      const input = h("input", {
        type: "radio",
        name: "route",
        value: route,
        checked: this.values.route === route,
        onchange: () => this.#set({ route }),
      });
      return h("label", { class: "choice" }, input, h("span", {}, h("strong", {}, title), h("small", {}, text)));
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
