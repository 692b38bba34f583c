// What `neurodial explain` writes of a neuron or of a circuit: the server makes it, and it stands here in a frame.
import { button, field, select, tick } from "../controls.js";
import { fill, h } from "../dom.js";
import { problem } from "../messages.js";
import { cancelJob, explainedPage, getExplained } from "../server.js";
import { progressOf, watchJob } from "../watch.js";
/** @import { Child, Option } from "../../../types/page.d.ts" */
/** @import { ExplainedView, Job, PromptSet } from "../../../types/views.d.ts" */
/** @import { Visit } from "./look.js" */

const MEASURING =
  "Turning its dial alone takes longer than reading: it needs the model's own answers, once for each circuit.";

const WORDING =
  "The words are scored on places that they were not made from, and stand on the page with that score and with chance.";

const VECTORS =
  "One model says what the vectors hold, another makes vectors of the words again: how near they come is the score, " +
  "beside controls. Both models are loaded for it.";

/**
 * What is asked for beyond reading.
 * @typedef {{ measure?: boolean, words?: boolean, vectors?: boolean, prompt?: string, at?: string }} More
 */

/**
 * The prompt set that it is read on (none: the one that fits), and whether words of harmful prompts are shown.
 * @typedef {{ id: string, set: string | null, shows: boolean }} On
 */

/**
 * The set that is asked for, else the one that the circuit is called after.
 * @param {PromptSet[]} sets @param {On} on
 */
export function fitting(sets, { id, set }) {
  const called = (/** @type {string} */ wanted) =>
    sets.find((one) => wanted.startsWith(one.id.replaceAll("_", "-")))?.id;
  return set !== null && sets.some((one) => one.id === set) ? set : (called(id) ?? "refusal");
}

/** @param {PromptSet[]} sets @param {On} on @param {(changed: Partial<On>) => void} go */
export function readingControls(sets, { set, shows }, go) {
  /** @type {Option[]} */
  const options = sets.map((one) => [one.id, one.title || one.id]);
  return h(
    "div",
    { class: "row bottom" },
    field(
      "Prompts that it is read on",
      select(options, set ?? "", (chosen) => go({ set: chosen })),
    ),
    tick(
      { type: "checkbox", checked: shows, onchange: (e) => go({ shows: e.currentTarget.checked }) },
      "Show words of harmful prompts",
    ),
  );
}

export class Explained {
  /**
   * @param {Visit} visit
   * @param {(more: More) => Promise<Job>} start begins a job that makes the page
   * @param {{ measures?: boolean, beside?: (view: ExplainedView, read: (more: More) => void) => Child }} [also]
   *   whether a dial alone can be turned, and what else stands beside the buttons
   */
  constructor(visit, start, { measures = false, beside = () => null } = {}) {
    this.visit = visit;
    this.start = start;
    this.measures = measures;
    this.also = beside;
    this.beside = h("div", { class: "row" });
    this.body = h("div", { class: "stack" });
  }

  /** @param {More} [more] */
  async read(more = {}) {
    const { visit } = this;
    fill(this.beside);
    const job = await this.start(more);
    if (visit.isOver) {
      cancelJob(job.id);
      return;
    }
    const again = (/** @type {string} */ text, /** @type {More} */ asked) => button(text, () => this.#readOrSay(asked));
    const unwatch = watchJob(job.id, {
      onprogress: (state) => fill(this.body, progressOf("Reading", state)),
      ondone: async () => {
        visit.stop = null;
        const view = await getExplained(job.id);
        if (!visit.isOver) {
          this.#show(job.id, view);
        }
      },
      onfail: (reason) => fill(this.body, problem({ words: reason }, again("Try again", more), again("Read it", {}))),
      oncancel: () => fill(this.body, problem({ words: { problem: "Cancelled." } }, again("Read it", {}))),
    });
    visit.stop = () => {
      unwatch();
      cancelJob(job.id).catch(() => {}); // nobody waits for it any more
    };
  }

  /** @param {More} more */
  #readOrSay(more) {
    this.read(more).catch((error) =>
      fill(
        this.body,
        problem(
          error,
          button("Read it", () => this.#readOrSay({})),
        ),
      ),
    );
  }

  /** @param {number} job @param {ExplainedView} view */
  #show(job, view) {
    const { in_circuit, measured, worded, vectors, speaker, pair, hidden } = view;
    const offer = (/** @type {string} */ text, /** @type {More} */ more, /** @type {string} */ title) =>
      button(text, () => this.#readOrSay(more), { class: more.measure ? "primary" : "", title });
    fill(
      this.beside,
      measured || !this.measures ? null : offer("Measure what its dial alone does", { measure: true }, MEASURING),
      worded ? null : offer(`Put it into words (${speaker})`, { words: true }, WORDING),
      vectors || !pair ? null : offer(`Put its vectors into words (${pair})`, { vectors: true }, VECTORS),
      in_circuit ? null : h("span", { class: "tag" }, "in no circuit: read alone, at dose 1"),
      hidden ? h("span", { class: "faint" }, "▮ stands for a word of a harmful prompt") : null,
      this.also(view, (more) => this.#readOrSay(more)),
    );
    fill(this.body, this.#frame(job));
  }

  /** @param {number} job */
  #frame(job) {
    const frame = h("iframe", {
      class: "explained-page",
      src: explainedPage(job),
      sandbox: "allow-same-origin",
      title: "What is known of it",
    });
    const fit = () => {
      const inside = frame.contentDocument?.documentElement;
      if (inside) {
        frame.style.height = `${inside.scrollHeight + 2}px`;
      }
    };
    frame.addEventListener("load", fit);
    new ResizeObserver(fit).observe(this.body);
    return frame;
  }
}
