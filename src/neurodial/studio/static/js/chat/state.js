// What the chat is set to: settings and dials, from the address, else from what this browser kept.
import { keep, recall } from "../keep.js";
import { readQuery, remember } from "../route.js";
import { getOpeners, listCircuits, listPromptSets } from "../server.js";
/** @import { ChatOptions, Dialled, SavedTurn } from "../../../types/page.d.ts" */
/** @import { CircuitEntry, OpenersBySource, PromptSet } from "../../../types/views.d.ts" */
/** @import { Turn } from "./turn.js" */

const KEPT = 20; // turns

/** @type {ChatOptions} */
const DEFAULTS = { system: "", temperature: 0, seed: 0, length: 128, openers: "" };

export class ChatState {
  /** @param {URLSearchParams} query */
  constructor(query) {
    this.query = query;
    this.options = readQuery(DEFAULTS, { ...DEFAULTS, ...recall("options", {}) }, query);
    /** @type {Dialled[]} */
    this.dials = [];
    /** @type {CircuitEntry[]} */
    this.circuits = [];
    /** @type {OpenersBySource} */
    this.openers = {};
    /** @type {PromptSet[]} */
    this.sets = [];
  }

  async load() {
    [this.circuits, this.openers, this.sets] = await Promise.all([listCircuits(), getOpeners(), listPromptSets()]);
    const listed = this.query.get("c");
    this.dials = listed === null ? this.#keptDials() : this.#dialsOf(listed);
    if (!this.options.openers || !this.openers[this.options.openers]) {
      const sources = this.dials.flatMap(({ id }) => [`circuit:${id}`, id]);
      this.options.openers = sources.find((key) => this.openers[key]) || Object.keys(this.openers)[0] || "";
    }
  }

  /** @param {string} id */
  circuit(id) {
    return this.circuits.find((circuit) => circuit.id === id);
  }

  /** @param {string} listed as the address has it: id@dial,id@dial */
  #dialsOf(listed) {
    return listed
      .split(",")
      .filter(Boolean)
      .map((part) => part.split("@"))
      .map(([id, value]) => ({ id, value: Number(value ?? 1) }))
      .filter(({ id, value }) => this.circuit(id) && Number.isFinite(value));
  }

  #keptDials() {
    const kept = recall("dials", /** @type {Dialled[]} */ ([])).filter(({ id }) => this.circuit(id));
    const first = this.circuits.slice(0, 1).map(({ id }) => ({ id, value: 1 }));
    return kept.length ? kept : first;
  }

  /** The turns to begin with: those of the address, else those that this browser kept. */
  savedTurns() {
    const listed = this.query.get("jobs");
    const kept = recall("chat", /** @type {SavedTurn[]} */ ([]));
    if (listed !== null) {
      return listed.split(",").map((job) => kept.find((turn) => String(turn.job) === job) || { job: Number(job) });
    }
    return this.query.get("q") ? [] : kept;
  }

  /** @param {Turn[]} turns */
  save(turns) {
    keep("options", this.options);
    keep("dials", this.dials);
    keep("chat", turns.slice(-KEPT).map(saved));
    const changed = Object.entries(this.options).filter(([key, value]) => value !== DEFAULTS[key]);
    remember("chat", [], {
      c: this.dials.map(({ id, value }) => `${id}@${value}`).join(","),
      q: turns.at(-1)?.prompt ?? "",
      jobs: turns.every((turn) => turn.job) ? turns.map((turn) => turn.job).join(",") : "",
      ...Object.fromEntries(changed),
    });
  }
}

/** @param {Turn} turn @returns {SavedTurn} */
function saved({ prompt, job, sides }) {
  return { prompt, job, unsteered: sides.unsteered.text, steered: sides.steered.text };
}
