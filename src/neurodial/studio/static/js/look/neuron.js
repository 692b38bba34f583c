// One neuron's page, as `neurodial explain` writes it: the server makes it, and it stands here in a frame.
import { button, field, select, tick } from "../controls.js";
import { fill, h } from "../dom.js";
import { loading, problem } from "../messages.js";
import { address } from "../route.js";
import { cancelJob, getCircuit, getNeuron, listPromptSets, neuronPage as pageOf, startNeuron } from "../server.js";
import { progressOf, watchJob } from "../watch.js";
import { longName, shortName } from "../names.js";
/** @import { Option } from "../../../types/page.d.ts" */
/** @import { CircuitRow, NeuronView, PromptSet } from "../../../types/views.d.ts" */
/** @import { Visit } from "./look.js" */

const MEASURING =
  "Turning its dial alone takes longer than reading: it needs the model's own answers, once for each circuit.";

const WORDING =
  "The words are scored on places that they were not made from, and stand on the page with that score and with chance.";

/**
 * What is asked for beyond reading.
 * @typedef {{ measure?: boolean, words?: boolean }} More
 */

/**
 * A neuron of a circuit, the prompt set that it is read on (none: the one that fits), and whether words of harmful
 * prompts are shown.
 * @typedef {{ id: string, layer: number, index: number, set: string | null, shows: boolean }} Asked
 */

/** @param {HTMLElement} main @param {Visit} visit @param {Asked} asked */
export async function neuronPage(main, visit, asked) {
  fill(main, loading());
  try {
    const [sets, { circuit }] = await Promise.all([listPromptSets(), getCircuit(asked.id)]);
    if (visit.isOver) {
      return;
    }
    const page = new NeuronPage(visit, { ...asked, set: fitting(sets, asked) });
    fill(main, page.frame(sets, circuit.rows));
    await page.read({});
  } catch (error) {
    if (!visit.isOver) {
      fill(main, problem(error, h("a", { class: "button", href: "#/look" }, "All circuits")));
    }
  }
}

/**
 * The set that is asked for, else the one that the circuit is called after.
 * @param {PromptSet[]} sets @param {Asked} asked
 */
function fitting(sets, { id, set }) {
  const called = (/** @type {string} */ wanted) =>
    sets.find((one) => wanted.startsWith(one.id.replaceAll("_", "-")))?.id;
  return sets.some((one) => one.id === set) ? set : (called(id) ?? "refusal");
}

class NeuronPage {
  /** @param {Visit} visit @param {Asked} asked */
  constructor(visit, asked) {
    this.visit = visit;
    this.asked = asked;
    this.body = h("div", { class: "stack" });
    this.beside = h("div", { class: "row" });
  }

  /** @param {PromptSet[]} sets @param {CircuitRow[]} rows of the circuit */
  frame(sets, rows) {
    const { id, layer, index, set, shows } = this.asked;
    /** @type {Option[]} */
    const options = sets.map((one) => [one.id, one.title || one.id]);
    const place = rows.findIndex((row) => row[0] === layer && row[1] === index);
    const ranked = [...rows].sort((one, other) => Math.abs(other[2]) - Math.abs(one[2]));
    const rank = place < 0 ? -1 : ranked.indexOf(rows[place]);
    return h(
      "div",
      { class: "page wide" },
      h(
        "p",
        { class: "row spread" },
        h("a", { href: address("look", [id]) }, `← ${id}`),
        rank < 0
          ? null
          : h("span", { class: "row" }, this.#to(ranked[rank - 1], "stronger"), this.#to(ranked[rank + 1], "weaker")),
      ),
      h(
        "div",
        { class: "row spread" },
        h("h1", {}, `Layer ${layer}, ${longName(layer, index)}`),
        h(
          "div",
          { class: "row bottom" },
          field(
            "Prompts that it is read on",
            select(options, set ?? "", (chosen) => this.#go({ set: chosen })),
          ),
          tick(
            { type: "checkbox", checked: shows, onchange: (e) => this.#go({ shows: e.currentTarget.checked }) },
            "Show words of harmful prompts",
          ),
        ),
      ),
      this.beside,
      this.body,
    );
  }

  /** @param {CircuitRow | undefined} row @param {string} text */
  #to(row, text) {
    const { id, set, shows } = this.asked;
    return row
      ? h(
          "a",
          { href: address("look", [id, "neuron", `${row[0]}.${row[1]}`], { set, shows }) },
          `next ${text}: ${row[0]}.${shortName(row[0], row[1])}`,
        )
      : null;
  }

  /** @param {Partial<Asked>} changed */
  #go(changed) {
    const { id, layer, index, set, shows } = { ...this.asked, ...changed };
    location.hash = address("look", [id, "neuron", `${layer}.${index}`], { set, shows });
  }

  /** @param {More} more */
  async read({ measure = false, words = false }) {
    const { id, layer, index, set, shows } = this.asked;
    fill(this.beside);
    const prompts = set ?? "refusal";
    const { visit } = this;
    const job = await startNeuron({ circuit: id, layer, index, prompts, measure, words, show_harmful: shows });
    if (visit.isOver) {
      cancelJob(job.id);
      return;
    }
    const unwatch = watchJob(job.id, {
      onprogress: (state) => fill(this.body, progressOf("Reading the neuron", state)),
      ondone: async () => {
        visit.stop = null;
        const view = await getNeuron(job.id);
        if (!visit.isOver) {
          this.#show(job.id, view);
        }
      },
      onfail: (reason) =>
        fill(
          this.body,
          problem(
            { words: reason },
            button("Try again", () => this.read({ measure, words })),
          ),
        ),
      oncancel: () =>
        fill(
          this.body,
          problem(
            { words: { problem: "Cancelled." } },
            button("Read it", () => this.read({})),
          ),
        ),
    });
    visit.stop = () => {
      unwatch();
      cancelJob(job.id).catch(() => {}); // nobody waits for it any more
    };
  }

  /** @param {number} job @param {NeuronView} view */
  #show(job, { in_circuit, measured, worded, speaker, hidden }) {
    const more = (/** @type {More} */ asked) => () =>
      this.read(asked).catch((error) => fill(this.body, problem(error)));
    fill(
      this.beside,
      measured
        ? null
        : button("Measure what its dial alone does", more({ measure: true }), { class: "primary", title: MEASURING }),
      worded ? null : button(`Put it into words (${speaker})`, more({ words: true }), { title: WORDING }),
      in_circuit ? null : h("span", { class: "tag" }, "in no circuit: read alone, at dose 1"),
      hidden ? h("span", { class: "faint" }, "▮ stands for a word of a harmful prompt") : null,
    );
    const frame = h("iframe", {
      class: "explained-page",
      src: pageOf(job),
      sandbox: "allow-same-origin",
      title: "What is known of the neuron",
    });
    const fit = () => {
      const inside = frame.contentDocument?.documentElement;
      if (inside) {
        frame.style.height = `${inside.scrollHeight + 2}px`;
      }
    };
    frame.addEventListener("load", fit);
    new ResizeObserver(fit).observe(this.body);
    fill(this.body, frame);
  }
}
