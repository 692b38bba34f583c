// The table of a circuit's neurons: sorted, filtered, each to be switched off for the chat.
import { button } from "../controls.js";
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { setSwitchedOff, switchedOff } from "../keep.js";
import { messageOf, toast } from "../messages.js";
import { number, percent } from "../numbers.js";
import { address, remember } from "../route.js";
import { saveCircuit } from "../server.js";
import { bar, scroll } from "../table.js";
import { filterOf, nameOf } from "./filter.js";
import { shortName } from "../names.js";
/** @import { Neuron } from "../../../types/page.d.ts" */
/** @import { Circuit, CircuitRow } from "../../../types/views.d.ts" */

const SHOWN = 500; // rows
const HELP =
  "Take the tick away and a neuron stays as it is in the chat, whatever the dial. A number opens the neuron's page.";

// In the order of a row's values; those with a definition have a "?".
const COLUMNS = [
  { key: "layer", title: "layer", isDefined: false },
  { key: "index", title: "neuron", isDefined: false },
  { key: "score", title: "score", isDefined: true },
  { key: "dose", title: "dose", isDefined: true },
  { key: "kept", title: "kept in folds", isDefined: true },
];

export class NeuronTable {
  /** @param {Circuit} circuit @param {string} id @param {URLSearchParams} query */
  constructor(circuit, id, query) {
    this.circuit = circuit;
    this.id = id;
    this.off = new Set(switchedOff(id).map(([layer, index]) => `${layer}.${index}`));
    this.sort = query.get("sort") || "score";
    this.isDown = query.get("up") === null;
    this.find = query.get("find") || "";
    this.largest = Math.max(...circuit.rows.map(([, , score]) => Math.abs(score)), 1e-12);
    this.heads = COLUMNS.map((column) => this.#head(column));
    this.body = h("tbody");
    this.count = h("span", { class: "faint", role: "status" });
    this.saveButton = button("Save without them", () => this.#save(), { class: "small" });
    this.allButton = button("All on", () => this.#allOn(), { class: "small" });
    this.element = this.#frame();
    this.draw();
  }

  #frame() {
    const filter = h("input", {
      type: "search",
      value: this.find,
      placeholder: "layer 29, 20-29, 29.741, > 2, off",
      "aria-label": "Filter neurons",
      oninput: (event) => {
        this.find = event.currentTarget.value;
        this.draw();
      },
    });
    const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "on"), this.heads));
    return h(
      "section",
      { class: "card" },
      h(
        "div",
        { class: "row spread" },
        h("h2", {}, "Neurons"),
        h("div", { class: "row" }, this.count, this.allButton, this.saveButton),
      ),
      h("p", { class: "faint" }, HELP),
      filter,
      scroll("Table of neurons", h("table", { class: "neurons" }, head, this.body)),
    );
  }

  /** @param {typeof COLUMNS[number]} column */
  #head({ key, title, isDefined }) {
    const sort = () => {
      this.isDown = this.sort === key ? !this.isDown : true;
      this.sort = key;
      this.draw();
    };
    return h("th", { scope: "col" }, button(title, sort, { class: "link" }), isDefined ? explain(key) : null);
  }

  draw() {
    const test = filterOf(this.find, this.off);
    const rows = this.#sorted(this.circuit.rows.filter(test ?? (() => true)));
    const order = this.isDown ? "descending" : "ascending";
    this.heads.forEach((head, place) => {
      head.setAttribute("aria-sort", COLUMNS[place].key === this.sort ? order : "none");
    });
    fill(
      this.body,
      rows.slice(0, SHOWN).map((row) => this.#row(row)),
    );
    const cut = rows.length > SHOWN ? `, the first ${SHOWN} shown` : "";
    const off = this.off.size ? `; ${this.off.size} off in the chat` : "";
    const unread = test ? "" : `; “${this.find}” is not understood yet`;
    fill(this.count, `${rows.length} of ${this.circuit.rows.length}${cut}${off}${unread}`);
    this.saveButton.hidden = !this.off.size;
    this.allButton.hidden = !this.off.size;
    remember("look", [this.id], { sort: this.sort === "score" ? "" : this.sort, up: !this.isDown, find: this.find });
  }

  /** @param {CircuitRow[]} rows */
  #sorted(rows) {
    const column = COLUMNS.findIndex(({ key }) => key === this.sort);
    const value = (/** @type {CircuitRow} */ row) => (this.sort === "score" ? Math.abs(row[2]) : (row[column] ?? -1));
    const sign = this.isDown ? -1 : 1;
    return rows.sort(
      (first, second) => sign * (value(first) - value(second)) || first[0] - second[0] || first[1] - second[1],
    );
  }

  /** @param {CircuitRow} row */
  #row(row) {
    const [layer, index, score, dose, kept] = row;
    const name = nameOf(row);
    const isOff = this.off.has(name);
    const box = h("input", {
      type: "checkbox",
      checked: !isOff,
      "aria-label": `Neuron ${name} on`,
      onchange: (event) => this.#switch(name, event.currentTarget.checked),
    });
    const page = address("look", [this.id, "neuron", name]);
    const strength = bar(score < 0 ? "down" : "up", Math.abs(score) / this.largest);
    return h(
      "tr",
      { "data-name": name, class: isOff ? "off" : "" },
      h("td", {}, box),
      h("td", {}, layer),
      h("td", {}, h("a", { href: page }, shortName(layer, index))),
      h("td", { class: "signed" }, strength, h("span", {}, number(score, 4))),
      h("td", {}, number(dose)),
      h("td", {}, kept === null ? "–" : percent(kept)),
    );
  }

  /** @param {string} name @param {boolean} isOn */
  #switch(name, isOn) {
    if (isOn) {
      this.off.delete(name);
    } else {
      this.off.add(name);
    }
    this.#changed();
    /** @type {HTMLInputElement | null} */
    const box = this.body.querySelector(`[data-name="${name}"] input`);
    box?.focus();
  }

  #allOn() {
    this.off.clear();
    this.#changed();
  }

  #changed() {
    setSwitchedOff(this.id, this.#switchedOff());
    this.draw();
  }

  /** @returns {Neuron[]} */
  #switchedOff() {
    return this.circuit.rows.filter((row) => this.off.has(nameOf(row))).map(([layer, index]) => [layer, index]);
  }

  async #save() {
    try {
      const name = `${this.circuit.name} less ${this.off.size}`;
      const saved = await saveCircuit({ circuit: this.id, off: this.#switchedOff(), name });
      setSwitchedOff(this.id, []);
      toast(`Saved as ${saved.id}`);
      location.hash = address("look", [saved.id]);
    } catch (error) {
      toast(messageOf(error));
    }
  }
}
