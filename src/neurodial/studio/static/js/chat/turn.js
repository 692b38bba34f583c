// One prompt with its two answers, and the job that makes them.
import { follow } from "../api.js";
import { button, iconButton } from "../controls.js";
import { fill, h } from "../dom.js";
import { problem } from "../messages.js";
import { cancelJob } from "../server.js";
import { Answer } from "./answer.js";
/** @import { AnswersEvent, Job, TokenEvent } from "../../../types/views.d.ts" */

const PATIENCE = 4000; // milliseconds until the turn says that it waits

/**
 * What the chat does when something happens to a turn.
 * @typedef {object} Doings
 * @property {(turn: Turn) => void} again
 * @property {(turn: Turn) => void} edit
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
    this.element = this.#draw();
  }

  #draw() {
    const edit = iconButton("edit", "Edit this prompt", () => this.doings.edit(this));
    const again = iconButton("again", "Answer again", () => this.doings.again(this));
    return h(
      "article",
      { class: "turn" },
      h("div", { class: "asked" }, h("p", {}, this.prompt), h("span", { class: "row tight" }, edit, again)),
      this.trouble,
      h("div", { class: "sides" }, this.sides.unsteered.element, this.sides.steered.element),
    );
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

  #sayThatItWaits() {
    if (this.isRunning && !this.sides.steered.events.length) {
      const text = "The model is busy with another job; the answer comes when it ends. See Jobs, above.";
      fill(this.trouble, h("p", { class: "loading", role: "status" }, h("span", { class: "spinner" }), text));
    }
  }

  /** @param {string} text @param {{ class?: string }} [properties] */
  #againButton(text, properties) {
    return button(text, () => this.doings.again(this), properties);
  }

  /** No longer listen, and stop the work. */
  async halt() {
    this.unfollow?.();
    this.unfollow = null;
    this.isRunning = false;
    if (this.job) {
      await cancelJob(this.job).catch(() => {}); // it is over
    }
  }
}
