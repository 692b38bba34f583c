// What the chat is set to: settings and dials, from the address, else from what this browser kept.
import { keep, recall, setSwitchedOff } from "../keep.js";
import { readQuery, remember } from "../route.js";
import { getConversation, getOpeners, listCircuits, listPromptSets } from "../server.js";
/** @import { Called, ChatOptions, Dialled, SavedTurn } from "../../../types/page.d.ts" */
/** @import { CircuitEntry, OpenersBySource, PromptSet } from "../../../types/views.d.ts" */
/** @import { Turn } from "./turn.js" */

const KEPT = 20; // turns

/** @type {ChatOptions} */
const DEFAULTS = { system: "", temperature: 0, seed: 0, length: 128, openers: "", strip: "0, 0.5, 1", moved: "" };

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
    /** What the conversation is called, once it has a name. @type {Called | null} */
    this.conversation = null;
    /** What this browser kept. @type {SavedTurn[]} */
    this.kept = recall("chat", []);
    /** @type {SavedTurn[] | null} */
    this.opened = null; // turns of a conversation that was opened
  }

  async load() {
    [this.circuits, this.openers, this.sets] = await Promise.all([listCircuits(), getOpeners(), listPromptSets()]);
    const listed = this.query.get("c");
    this.dials = listed === null ? this.#keptDials() : this.#dialsOf(listed);
    await this.#loadConversation();
    if (!this.options.openers || !this.openers[this.options.openers]) {
      const sources = this.dials.flatMap(({ id }) => [`circuit:${id}`, id]);
      this.options.openers = sources.find((key) => this.openers[key]) || Object.keys(this.openers)[0] || "";
    }
  }

  /** The conversation that the address names: this browser's own, or one that is opened now. */
  async #loadConversation() {
    const id = this.query.get("talk");
    const kept = recall("conversation", /** @type {Called | null} */ (null));
    if (id === null || (kept?.id === id && this.query.get("c") !== null)) {
      this.conversation = id === null && this.savedTurns() !== this.kept ? null : kept;
      return;
    }
    const found = await getConversation(id);
    this.conversation = { id, name: found.name };
    this.options = { ...this.options, ...found.settings };
    this.dials = found.circuits.map(({ id: circuit, dial }) => ({ id: circuit, value: dial }));
    this.opened = found.turns.map((turn) => ({ ...turn, job: null }));
    for (const { id: circuit, off } of found.circuits) {
      setSwitchedOff(circuit, off);
    }
  }

  /** The circuit that is moved where answers at several dials are asked for; the first where none was chosen. */
  get moved() {
    const { moved } = this.options;
    return this.dials.some(({ id }) => id === moved) ? moved : (this.dials[0]?.id ?? "");
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
    if (this.opened) {
      return this.opened;
    }
    const listed = this.query.get("jobs");
    if (listed !== null) {
      return listed.split(",").map((job) => this.kept.find((turn) => String(turn.job) === job) || { job: Number(job) });
    }
    const asked = this.query.get("q");
    return asked && asked !== this.kept.at(-1)?.prompt ? [] : this.kept;
  }

  /** @param {Turn[]} turns */
  save(turns) {
    keep("options", this.options);
    keep("dials", this.dials);
    keep("chat", turns.slice(-KEPT).map(saved));
    keep("conversation", this.conversation);
    const changed = Object.entries(this.options).filter(([key, value]) => value !== DEFAULTS[key]);
    remember("chat", [], {
      talk: this.conversation?.id,
      c: this.dials.map(({ id, value }) => `${id}@${value}`).join(","),
      q: turns.at(-1)?.prompt ?? "",
      jobs: turns.every((turn) => turn.job) ? turns.map((turn) => turn.job).join(",") : "",
      ...Object.fromEntries(changed),
    });
  }
}

/** @param {Turn} turn @returns {SavedTurn} */
function saved({ prompt, job, sides, strip }) {
  return { prompt, job, unsteered: sides.unsteered.text, steered: sides.steered.text, strip: strip && strip.kept };
}
