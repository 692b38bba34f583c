// Watching a long job: its progress as often as it moves, how it ended once.
import { Refused } from "./api.js";
import { button } from "./controls.js";
import { h } from "./dom.js";
import { duration } from "./numbers.js";
import { cancelJob, getJob } from "./server.js";
/** @import { Watcher } from "../../types/page.d.ts" */
/** @import { Job, Step } from "../../types/views.d.ts" */

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

/**
 * What a job is at: every step that it did and does, with its time, and how long the running one still takes.
 * @param {string} title @param {Job} job
 */
export function progressOf(title, job) {
  const isWaiting = job.state === "queued";
  return h(
    "section",
    { class: "card working", role: "status" },
    h(
      "div",
      { class: "row spread" },
      h("h2", {}, isWaiting ? `${title}: waiting for the job before it` : title),
      button("Cancel", () => cancelJob(job.id), { class: "danger small" }),
    ),
    stepsOf(job),
  );
}

/** The steps of a job. @param {Job} job */
export function stepsOf({ state, steps }) {
  if (!steps.length) {
    return state === "queued" ? null : h("p", { class: "faint" }, "starting …");
  }
  return h("ol", { class: "steps" }, steps.map(drawStep));
}

/** @param {Step} step */
function drawStep({ description, done, total, times, seconds, left, running }) {
  const again = times > 1 ? `, time ${times}` : "";
  const rest = left === null ? "" : `, about ${duration(left)} left`;
  const said = running
    ? `${done} of ${total}${again}${rest}`
    : `${duration(seconds)}${times > 1 ? `, ${times} times` : ""}`;
  return h(
    "li",
    { class: running ? "running" : "" },
    h("span", {}, description),
    h("small", {}, said),
    running ? h("progress", { value: done, max: total || 1, "aria-label": description }) : null,
  );
}
