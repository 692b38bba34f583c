// Answers to one prompt at several dials, in columns.
import { follow } from "../api.js";
import { iconButton } from "../controls.js";
import { fill, h } from "../dom.js";
import { problem } from "../messages.js";
import { cancelJob } from "../server.js";
import { Answer } from "./answer.js";
/** @import { SavedStrip } from "../../../types/page.d.ts" */
/** @import { ColumnToken, Job, StripEvent } from "../../../types/views.d.ts" */

export class Strip {
  /**
   * @param {SavedStrip} kept which circuit is moved, to which dials, and the answers where they are known
   * @param {{ onover: () => void, onclose: () => void }} doings
   */
  constructor(kept, { onover, onclose }) {
    this.moved = kept.moved;
    this.dials = kept.dials;
    this.onover = onover;
    /** @type {number | null} */
    this.job = null;
    /** @type {(() => void) | null} */
    this.unfollow = null;
    this.trouble = h("div");
    this.columns = kept.dials.map((dial) => new Answer("column", `dial ${dial}`));
    this.columns.forEach((column, place) => column.plain(kept.texts[place] ?? ""));
    const close = () => {
      this.halt();
      onclose();
    };
    const title = `${kept.moved} at ${kept.dials.length} dials`;
    this.element = h(
      "section",
      { class: "strip-view", "aria-label": `Answers of ${title}` },
      h("header", { class: "row spread" }, h("h3", {}, title), iconButton("close", "Close these answers", close)),
      this.trouble,
      h(
        "div",
        { class: "columns", tabindex: "0", role: "region", "aria-label": `${title}, side by side` },
        this.columns.map(({ element }) => element),
      ),
    );
  }

  /** As this browser and a conversation keep it. @returns {SavedStrip} */
  get kept() {
    return { job: this.job, moved: this.moved, dials: this.dials, texts: this.columns.map(({ text }) => text) };
  }

  /** Show what a job says, from its beginning. @param {number} job */
  attach(job) {
    this.job = job;
    /** @type {StripEvent | null} */
    let ends = null;
    let at = -1; // the column that is being written
    this.unfollow = follow(
      job,
      (/** @type {ColumnToken | StripEvent} */ event) => {
        if (event.event === "strip") {
          ends = event;
          return;
        }
        if (event.column !== at) {
          this.columns[at]?.finish(null);
          at = event.column;
          fill(this.columns[at].body);
          this.columns[at].begin();
        }
        this.columns[at].add(event);
      },
      (over) => this.#finish(ends, over),
    );
  }

  /** @param {unknown} error */
  fail(error) {
    fill(this.trouble, problem(error));
  }

  /** @param {StripEvent | null} ends @param {Pick<Job, "state" | "error">} over */
  #finish(ends, { state, error }) {
    this.columns.forEach((column, place) => {
      if (column.events.length) {
        column.finish(ends && ends.columns[place]);
      }
    });
    if (state !== "done") {
      this.fail({ words: error || { problem: "Stopped." } });
    }
    this.onover();
  }

  halt() {
    this.unfollow?.();
    this.unfollow = null;
    if (this.job) {
      cancelJob(this.job).catch(() => {}); // it is over
    }
  }
}
