// Measure: evaluations and frontiers with progress; their reports; runs side by side.
import { button, field, select } from "../controls.js";
import { fill, h } from "../dom.js";
import { openButton } from "../files.js";
import { blank, loading, problem, soft } from "../messages.js";
import { address, jobIn, remember } from "../route.js";
import {
  getOptions,
  getReport,
  getReported,
  listCircuits,
  listMethods,
  listPromptSets,
  listReports,
  startMeasurement,
} from "../server.js";
import { progressOf, watchJob } from "../watch.js";
import { askedMeasurement, fitForm, Form, readForm } from "./form.js";
import { summary } from "./numbers-table.js";
import { showComparison, showReport } from "./report.js";
/** @import { Option, Show, Watcher } from "../../../types/page.d.ts" */
/** @import { ReportEntry } from "../../../types/views.d.ts" */

const NOTHING =
  "Choose a circuit and a few prompts at the left; a small evaluation of the demo model takes a minute or two.";
const CANCELLED = "Cancelled. What was finished is kept: the same measurement goes on where it stopped.";

/** @type {Show} */
export function show(main, { rest, query }) {
  const [kind, first, second] = rest;
  if (kind === "report") {
    showReport(main, first, second);
  } else if (kind === "compare") {
    showComparison(main, first, second);
  } else {
    const page = new Measure(main, query);
    page.start();
    return () => page.leave();
  }
  return () => {};
}

class Measure {
  /** @param {HTMLElement} main @param {URLSearchParams} query */
  constructor(main, query) {
    this.main = main;
    this.values = readForm();
    this.job = jobIn(query);
    /** @type {ReportEntry[]} */
    this.reports = [];
    /** @type {(() => void) | null} */
    this.unwatch = null;
    this.result = h("div");
    this.list = h("div");
    this.startButton = h("button");
  }

  async start() {
    fill(this.main, loading());
    try {
      const asked = Promise.all([listCircuits(), listPromptSets(), listMethods(), listReports(), getOptions()]);
      const [circuits, sets, methods, reports, { evaluation }] = await asked;
      this.reports = reports;
      const choices = { circuits, sets, methods, options: evaluation };
      fitForm(this.values, choices);
      const form = new Form(this.values, choices, () => this.run());
      this.startButton = form.startButton;
      fill(this.main, h("div", { class: "page wide split" }, form.element, h("div", {}, this.result, this.list)));
    } catch (error) {
      fill(this.main, problem(error));
      return;
    }
    this.drawReports();
    if (this.job) {
      this.watch(this.job);
    }
  }

  async run() {
    try {
      const job = await startMeasurement(askedMeasurement(this.values));
      this.job = job.id;
      remember("measure", [], { job: job.id });
      this.watch(job.id);
    } catch (error) {
      fill(this.result, problem(error));
    }
  }

  /** @param {number} job */
  watch(job) {
    this.unwatch?.();
    this.startButton.disabled = true;
    this.unwatch = watchJob(job, this.watcher(job));
  }

  /** @param {number} job @returns {Watcher} */
  watcher(job) {
    const free = () => {
      this.startButton.disabled = false;
    };
    return {
      onprogress: (state) => {
        const title = state.kind === "frontier" ? "Measuring the frontier" : "Evaluating";
        fill(this.result, progressOf(title, state));
      },
      ondone: async () => {
        free();
        try {
          await this.drawResult(job);
        } catch (error) {
          fill(this.result, problem(error));
        }
      },
      onfail: (words) => {
        free();
        if (words.forgotten) {
          fill(this.result);
          remember("measure", [], {});
        } else {
          const again = button("Try again", () => this.run());
          fill(this.result, problem({ words }, again));
        }
      },
      oncancel: () => {
        free();
        const card = soft(CANCELLED);
        card.append(button("Go on", () => this.run()));
        fill(this.result, card);
      },
    };
  }

  /** @param {number} job */
  async drawResult(job) {
    const { report } = await getReported(job);
    this.reports = await listReports();
    this.drawReports();
    const part = this.reports.find(({ id }) => id === report)?.parts[0] ?? "report";
    const title = h("h2", {}, "Done");
    const card = h("section", { class: "card" }, title, h("div", { class: "table-box" }, loading()));
    fill(this.result, card);
    const open = { class: "button primary", href: address("measure", ["report", report, part]) };
    const numbers = summary(await getReport(report, part));
    fill(card, h("div", { class: "row spread" }, title, h("a", open, "Open the report")), numbers);
  }

  drawReports() {
    if (!this.reports.length) {
      fill(this.list, this.job ? null : blank("No reports yet", NOTHING, openButton()));
      return;
    }
    const parts = this.reports.flatMap((report) => report.parts.map((part) => partOption(report, part)));
    const links = parts.map(([path, text]) =>
      h("li", {}, h("a", { href: address("measure", ["report", ...path.split("|")]) }, text)),
    );
    fill(
      this.list,
      h(
        "section",
        { class: "card" },
        h("div", { class: "row spread" }, h("h2", {}, "Reports"), openButton()),
        h("ul", { class: "plain-list" }, links),
        parts.length > 1 ? comparing(parts) : null,
      ),
    );
  }

  leave() {
    this.unwatch?.();
  }
}

/** @param {ReportEntry} report @param {string} part @returns {Option} */
const partOption = ({ id, name }, part) => [`${id}|${part}`, part === "report" ? name : `${name}, ${part}`];

/** @param {Option[]} parts */
function comparing(parts) {
  let [[first], [second]] = parts;
  const chooseFirst = (/** @type {string} */ path) => {
    first = path;
  };
  const chooseSecond = (/** @type {string} */ path) => {
    second = path;
  };
  const compare = () => {
    location.hash = address("measure", ["compare", first, second]);
  };
  return h(
    "div",
    { class: "row" },
    field("Compare", select(parts, first, chooseFirst)),
    field("with", select(parts, second, chooseSecond)),
    button("Side by side", compare),
  );
}
