// Watching a long job: its progress as often as it moves, how it ended once.
import { Refused } from "./api.js";
import { button } from "./controls.js";
import { h } from "./dom.js";
import { cancelJob, getJob } from "./server.js";
/** @import { Watcher } from "../../types/page.d.ts" */
/** @import { Job } from "../../types/views.d.ts" */

const PAUSE = 400; // milliseconds
const UNSAID = { problem: "It failed, and does not say why." };

/**
 * Gives a function that stops watching.
 * @param {number} number
 * @param {Watcher} watcher
 */
export function watchJob(number, watcher) {
  let isOver = false;

  /** @param {Job} job */
  function tell(job) {
    isOver = ["done", "failed", "cancelled"].includes(job.state);
    if (job.state === "done") {
      watcher.ondone(job);
    } else if (job.state === "failed") {
      watcher.onfail(job.error || UNSAID);
    } else if (job.state === "cancelled") {
      watcher.oncancel();
    } else {
      watcher.onprogress(job);
    }
  }

  async function look() {
    try {
      const job = await getJob(number);
      if (!isOver) {
        tell(job);
      }
    } catch (error) {
      if (!isOver && error instanceof Refused && error.status === 404) {
        isOver = true;
        watcher.onfail({ ...error.words, forgotten: true });
      }
    }
    if (!isOver) {
      setTimeout(look, PAUSE);
    }
  }

  look();
  return () => {
    isOver = true;
  };
}

/** @param {string} title @param {Job} job */
export function progressOf(title, job) {
  const { description, done, total } = job.progress;
  return h(
    "section",
    { class: "card working", role: "status" },
    h(
      "div",
      { class: "row spread" },
      h("h2", {}, job.state === "queued" ? `${title}: waiting for the job before it` : title),
      button("Cancel", () => cancelJob(job.id), { class: "danger small" }),
    ),
    h("progress", { value: total ? done : undefined, max: total || 1, "aria-label": description || title }),
    h("p", { class: "faint" }, description ? `${description}: ${done} of ${total}` : "starting …"),
  );
}
