// One prompt with its two answers, and the job that makes them.
import { follow } from "../api.js";
import { button, iconButton } from "../controls.js";
import { fill, h } from "../dom.js";
import { problem } from "../messages.js";
import { cancelJob, listJobs } from "../server.js";
import { Answer } from "./answer.js";
import { Strip } from "./strip.js";
/** @import { SavedStrip } from "../../../types/page.d.ts" */
/** @import { AnswersEvent, Job, TokenEvent } from "../../../types/views.d.ts" */

const PATIENCE = 4000; // milliseconds until the turn says that it waits
const OWN = ["answer", "strip"]; // kinds of jobs that the chat itself starts

/**
 * What the chat does when something happens to a turn.
 * @typedef {object} Doings
 * @property {(turn: Turn) => void} again
 * @property {(turn: Turn) => void} edit
 * @property {(turn: Turn) => void} strip
 * @property {() => void} onrunning it began to run, or ended
 * @property {() => void} ontoken
 * @property {() => void} onover
 */

export class Turn {
  /** @param {string} prompt @param {Doings} doings */
  constructor(prompt, doings) {
    this.prompt = prompt;
    this.doings = doings;
    this.sides = { unsteered: new Answer("unsteered"), steered: new Answer("steered") };
    /** @type {number | null} */
    this.job = null;
    /** @type {[number, number] | null} */
    this.openers = null;
    this.isRunning = false;
    this.round = 0; // counts how often it was asked, so that an older answer knows that it is
    /** @type {(() => void) | null} */
    this.unfollow = null;
    this.trouble = h("div");
    this.stripBox = h("div");
    /** @type {Strip | null} */
    this.strip = null;
    this.element = this.#draw();
  }

  #draw() {
    const edit = iconButton("edit", "Edit this prompt", () => this.doings.edit(this));
    const strip = iconButton("strip", "Answer at several dials", () => this.doings.strip(this));
    strip.classList.add("strip-button");
    const again = iconButton("again", "Answer again", () => this.doings.again(this));
    return h(
      "article",
      { class: "turn" },
      h("div", { class: "asked" }, h("p", {}, this.prompt), h("span", { class: "row tight" }, strip, edit, again)),
      this.trouble,
      h("div", { class: "sides" }, this.sides.unsteered.element, this.sides.steered.element),
      this.stripBox,
    );
  }

  /** Columns below both answers, in the place of earlier ones. @param {SavedStrip} kept */
  openStrip(kept) {
    this.strip?.halt();
    const strip = new Strip(kept, {
      onover: this.doings.onover,
      onclose: () => {
        this.strip = null;
        fill(this.stripBox);
        this.doings.onover();
      },
    });
    this.strip = strip;
    fill(this.stripBox, strip.element);
    return strip;
  }

  begin() {
    this.isRunning = true;
    for (const side of Object.values(this.sides)) {
      side.begin();
    }
    this.doings.onrunning();
  }

  /** @param {unknown} error */
  fail(error) {
    this.isRunning = false;
    for (const side of Object.values(this.sides)) {
      side.finish(null);
    }
    fill(this.trouble, problem(error, this.#againButton("Try again")));
    this.doings.onrunning();
  }

  /**
   * Show what a job says, from its beginning.
   * @param {number} job
   */
  attach(job) {
    this.job = job;
    this.begin();
    const waiting = setTimeout(() => this.#sayThatItWaits(), PATIENCE);
    /** @type {AnswersEvent | null} */
    let ends = null;
    /** @param {TokenEvent | AnswersEvent} event */
    const onevent = (event) => {
      if (this.job !== job) {
        return;
      }
      if (event.event === "answers") {
        ends = event;
      } else {
        this.#add(event);
      }
    };
    this.unfollow = follow(job, onevent, (over) => {
      clearTimeout(waiting);
      if (this.job === job) {
        this.#finish(ends, over);
      }
    });
  }

  /** @param {TokenEvent} token */
  #add(token) {
    fill(this.trouble);
    this.sides[token.side].add(token);
    this.openers = token.openers || this.openers;
    this.doings.ontoken();
  }

  /** @param {AnswersEvent | null} ends @param {Pick<Job, "state" | "error">} over */
  #finish(ends, { state, error }) {
    this.isRunning = false;
    this.sides.unsteered.finish(ends && ends.unsteered);
    this.sides.steered.finish(ends && ends.steered);
    fill(
      this.trouble,
      state === "failed" ? problem({ words: error }, this.#againButton("Try again")) : null,
      state === "cancelled"
        ? h("p", { class: "row faint" }, "Stopped.", this.#againButton("Answer again", { class: "small" }))
        : null,
    );
    this.doings.onover();
  }

  /** Only where another job is at work: an own answer that takes its time is no other job. */
  async #sayThatItWaits() {
    const jobs = this.#isSilent ? await listJobs().catch(() => []) : [];
    const other = jobs.find(({ state }) => state === "running");
    const isQueued = jobs.some(({ id, state }) => id === this.job && state === "queued");
    if (this.#isSilent && isQueued && other && !OWN.includes(other.kind)) {
      const text = `The model is busy (${other.kind}: ${other.title}); the answer comes when that ends.`;
      fill(this.trouble, h("p", { class: "loading", role: "status" }, h("span", { class: "spinner" }), text));
    }
  }

  get #isSilent() {
    return this.isRunning && !this.sides.steered.events.length;
  }

  /** @param {string} text @param {{ class?: string }} [properties] */
  #againButton(text, properties) {
    return button(text, () => this.doings.again(this), properties);
  }

  /** No longer listen, and stop the work. */
  async halt() {
    this.strip?.halt();
    this.unfollow?.();
    this.unfollow = null;
    this.isRunning = false;
    if (this.job) {
      await cancelJob(this.job).catch(() => {}); // it is over
    }
  }
}
