// Dials, live numbers and settings beside the chat.
import { follow } from "../api.js";
import { field, select } from "../controls.js";
import { dial } from "../dial.js";
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { switchedOff } from "../keep.js";
import { problem } from "../messages.js";
import { getOpeners, startOpeners } from "../server.js";
import { drawDamage, drawGauge } from "./gauge.js";
import { drawSettings } from "./settings.js";
/** @import { Dialled, Option } from "../../../types/page.d.ts" */
/** @import { ChatState } from "./state.js" */
/** @import { Turn } from "./turn.js" */

const FIND = "find:"; // before a prompt set whose openers are to be found
const FINDING = "The model answers the prompts of this set; its answers' first words are compared …";

export class Panel {
  /**
   * @param {ChatState} state
   * @param {() => void} onturned a dial or a setting moved
   * @param {() => void} onkept something changed that needs no other answer
   * @param {() => Turn | undefined} lastTurn
   */
  constructor(state, onturned, onkept, lastTurn) {
    this.onkept = onkept;
    this.state = state;
    this.onturned = onturned;
    this.lastTurn = lastTurn;
    this.element = h("aside", { class: "panel", "aria-label": "Dials and settings" });
    this.gauge = h("div", { class: "gauge" });
    this.damage = h("div", { class: "damage" });
  }

  draw() {
    this.gauge = h("div", { class: "gauge" });
    this.damage = h("div", { class: "damage" });
    fill(
      this.element,
      this.#dials(),
      h("section", {}, h("h2", {}, "Damage so far", explain("kl_so_far")), this.damage),
      h("section", {}, h("h2", {}, "First token", explain("openers")), this.gauge, this.#openerChoice()),
      this.#several(),
      drawSettings(this.state.options, this.onturned),
    );
    this.live();
  }

  live() {
    drawDamage(this.damage, this.lastTurn());
    drawGauge(this.gauge, this.lastTurn(), this.state.openers[this.state.options.openers]);
  }

  #redraw() {
    this.draw();
    this.onturned();
  }

  #dials() {
    const { circuits, dials } = this.state;
    const free = circuits.filter((circuit) => !dials.some(({ id }) => id === circuit.id));
    return h(
      "section",
      { class: "dials" },
      h("h2", {}, "Dial"),
      dials.map((dialled) => this.#dial(dialled)),
      dials.length ? null : h("p", { class: "faint" }, "No circuit is on the steered side."),
      free.length ? this.#addChoice(free.map(({ id, name, neurons }) => [id, `${name} (${neurons} neurons)`])) : null,
    );
  }

  /** @param {Dialled} dialled */
  #dial(dialled) {
    const circuit = this.state.circuit(dialled.id);
    if (!circuit) {
      return null;
    }
    const { name, direction, neurons } = circuit;
    const turn = (/** @type {number} */ value) => {
      dialled.value = value;
      this.onturned();
    };
    const takeOut = () => {
      this.state.dials = this.state.dials.filter((other) => other !== dialled);
      this.#redraw();
    };
    return dial({ ...dialled, name, direction, neurons, off: switchedOff(dialled.id).length }, turn, takeOut);
  }

  /** @param {Option[]} free circuits that have no dial yet */
  #addChoice(free) {
    const choice = select([["", "Add a circuit …"], ...free], "", (id) => {
      this.state.dials.push({ id, value: 1 });
      this.#redraw();
    });
    choice.setAttribute("aria-label", "Add a circuit");
    return choice;
  }

  /** Which dials stand beside each other where several are asked for. */
  #several() {
    const { options, dials } = this.state;
    const write = (/** @type {"strip" | "moved"} */ key, /** @type {string} */ text) => {
      options[key] = text;
      this.onkept();
    };
    const values = h("input", {
      type: "text",
      value: options.strip,
      id: "strip-dials",
      onchange: (event) => write("strip", event.currentTarget.value),
    });
    /** @type {Option[]} */
    const names = dials.map(({ id }) => [id, this.state.circuit(id)?.name ?? id]);
    return h(
      "section",
      { class: "several" },
      h("h2", {}, "Several dials"),
      field(
        "Side by side",
        values,
        "Numbers between commas; the button with three columns beside a prompt asks for them.",
      ),
      names.length > 1
        ? field(
            "Of the circuit",
            select(names, this.state.moved, (id) => write("moved", id)),
          )
        : null,
    );
  }

  #openerChoice() {
    const { openers, options, sets } = this.state;
    const sources = Object.keys(openers);
    const choice = select(
      [
        ["", sources.length ? "none" : "choose a behaviour …"],
        ...sources.map(knownOption),
        ...sets.filter(({ id }) => !openers[id]).map(({ id, title }) => findOption(id, title)),
      ],
      options.openers,
      (source) => {
        if (source.startsWith(FIND)) {
          this.#findOpeners(source.slice(FIND.length), choice);
        } else {
          options.openers = source;
          this.#redraw();
        }
      },
    );
    choice.setAttribute("aria-label", "Openers of which behaviour");
    return choice;
  }

  /** @param {string} set @param {HTMLSelectElement} choice */
  async #findOpeners(set, choice) {
    choice.disabled = true;
    fill(this.gauge, h("p", { class: "faint" }, FINDING));
    const fail = (/** @type {unknown} */ error) => {
      fill(this.gauge, problem(error));
      choice.disabled = false;
    };
    try {
      const job = await startOpeners({ prompts: set });
      follow(
        job.id,
        () => {},
        async ({ state, error }) => {
          if (state !== "done") {
            fail({ words: error || { problem: "Cancelled." } });
            return;
          }
          this.state.openers = await getOpeners();
          this.state.options.openers = set;
          this.#redraw();
        },
      );
    } catch (error) {
      fail(error);
    }
  }
}

/** @param {string} source @returns {Option} */
const knownOption = (source) => [source, `of ${source.replace("circuit:", "the circuit ")}`];

/** @param {string} id @param {string} title @returns {Option} */
const findOption = (id, title) => [`${FIND}${id}`, `find those of ${title || id}`];
