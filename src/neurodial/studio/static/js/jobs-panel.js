// Jobs, the same in every tab: what runs stands in the header, the rest in a panel.
import { iconButton } from "./controls.js";
import { fill, h, part } from "./dom.js";
import { address } from "./route.js";
import { cancelJob, listJobs } from "./server.js";
import { stepsOf } from "./watch.js";
/** @import { Job } from "../../types/views.d.ts" */

const SHOWN = 30;

// Where a kind of job is looked at, and what the header says while it runs.
/** @type {Record<string, string>} */
const VIEWS = { discover: "discover", evaluate: "measure", frontier: "measure", export: "export" };
/** @type {Record<string, string>} */
const DOING = {
  answer: "answering",
  discover: "discovering",
  openers: "finding openers",
  evaluate: "evaluating",
  frontier: "frontier",
  export: "exporting",
  neuron: "reading a neuron",
  whole: "reading a circuit",
};

const panel = part("jobs-panel");
const button = part("jobs-button");
/** @type {Job[]} */
let jobs = [];

async function poll() {
  try {
    jobs = await listJobs();
    showJobs();
  } catch {
    part("jobs-text").textContent = "no answer";
    button.dataset.state = "failed";
  }
  setTimeout(poll, pause());
}

/** How long until the next look, in milliseconds. */
function pause() {
  if (document.hidden) {
    return 5000;
  }
  return jobs.some((job) => job.state === "running" || job.state === "queued") ? 700 : 2500;
}

function showJobs() {
  const running = jobs.find((job) => job.state === "running");
  part("jobs-text").textContent = running ? headline(running) : "idle";
  button.dataset.state = running ? "running" : "idle";
  if (!panel.hidden) {
    drawJobs();
  }
}

/** @param {Job} running */
function headline({ kind, progress }) {
  const waiting = jobs.filter((job) => job.state === "queued").length;
  const share = progress.total ? ` ${Math.round((100 * progress.done) / progress.total)} %` : "";
  return `${DOING[kind] || kind}${share}${waiting ? `, ${waiting} waiting` : ""}`;
}

function drawJobs() {
  const listed = [...jobs]
    .reverse()
    .filter((job) => !["neuron", "whole"].includes(job.kind))
    .slice(0, SHOWN);
  fill(
    panel,
    h("header", { class: "row" }, h("h2", {}, "Jobs"), iconButton("close", "Close the jobs", toggle)),
    listed.length
      ? h("ul", { class: "jobs" }, listed.map(drawJob))
      : h("p", { class: "faint" }, "Nothing has run yet."),
  );
}

/** @param {Job} job */
function drawJob(job) {
  const view = VIEWS[job.kind];
  const isWaiting = job.state === "running" || job.state === "queued";
  const stop = () => cancelJob(job.id);
  return h(
    "li",
    { "data-state": job.state },
    h("div", { class: "row spread" }, h("strong", {}, job.kind), h("span", { class: `state ${job.state}` }, job.state)),
    h("div", { class: "clip" }, view ? h("a", { href: address(view, [], { job: job.id }) }, job.title) : job.title),
    job.state === "running" && job.kind !== "answer" ? stepsOf(job) : null,
    job.state === "failed" ? h("small", {}, job.error?.problem) : null,
    isWaiting ? h("button", { type: "button", class: "small", onclick: stop }, "Cancel") : null,
  );
}

function toggle() {
  panel.hidden = !panel.hidden;
  button.setAttribute("aria-expanded", String(!panel.hidden));
  if (panel.hidden) {
    button.focus();
  } else {
    drawJobs();
    panel.querySelector("button")?.focus();
  }
}

export function startJobsPanel() {
  button.addEventListener("click", toggle);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) {
      toggle();
    }
  });
  poll();
}
