// Export: a circuit at its dial as files for other engines, checked that they do what the dial does.
import { button } from "../controls.js";
import { fill, h } from "../dom.js";
import { blank, loading, problem, soft } from "../messages.js";
import { address, jobIn, remember } from "../route.js";
import { getExport, getExported, listCircuits, listExportFormats, listExports, startExport } from "../server.js";
import { progressOf, watchJob } from "../watch.js";
import { askedExport, Form, readForm } from "./form.js";
import { drawExport } from "./proof.js";
/** @import { Show, Watcher } from "../../../types/page.d.ts" */
/** @import { CircuitEntry, ExportFormat } from "../../../types/views.d.ts" */

/** @type {Show} */
export function show(main, { rest, query }) {
  if (rest[0]) {
    showExport(main, rest[0]);
    return () => {};
  }
  const page = new ExportPage(main, query);
  page.start();
  return () => page.leave();
}

class ExportPage {
  /** @param {HTMLElement} main @param {URLSearchParams} query */
  constructor(main, query) {
    this.main = main;
    this.values = readForm(query);
    this.job = jobIn(query);
    /** @type {string[]} */
    this.exports = [];
    /** @type {(() => void) | null} */
    this.unwatch = null;
    this.result = h("div");
    this.list = h("div");
    this.startButton = h("button");
  }

  async start() {
    fill(this.main, loading());
    try {
      const [circuits, formats, exports] = await Promise.all([listCircuits(), listExportFormats(), listExports()]);
      this.exports = exports;
      if (!circuits.length) {
        fill(this.main, nothingYet());
        return;
      }
      this.draw(circuits, formats);
    } catch (error) {
      fill(this.main, problem(error));
      return;
    }
    if (this.job) {
      this.watch(this.job);
    }
  }

  /** @param {CircuitEntry[]} circuits @param {ExportFormat[]} formats */
  draw(circuits, formats) {
    const form = new Form(this.values, circuits, formats, {
      onrun: () => this.run(),
      onchange: () => this.remember(),
    });
    this.values.circuit = form.circuit.id;
    this.startButton = form.startButton;
    fill(this.main, h("div", { class: "page wide split" }, form.element, h("div", {}, this.result, this.list)));
    this.drawList();
  }

  remember() {
    const { circuit, dial, route } = this.values;
    remember("export", [], { c: `${circuit}@${dial}`, route: route === "lora" ? "" : route, job: this.job });
  }

  async run() {
    try {
      const job = await startExport(askedExport(this.values));
      this.job = job.id;
      this.remember();
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
      onprogress: (state) => fill(this.result, progressOf("Writing and checking", state)),
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
        } else {
          const again = button("Try again", () => this.run());
          fill(this.result, problem({ words }, again));
        }
      },
      oncancel: () => {
        free();
        fill(this.result, soft("Cancelled: nothing was left behind."));
      },
    };
  }

  /** @param {number} job */
  async drawResult(job) {
    const { export: id } = await getExported(job);
    this.exports = await listExports();
    this.drawList();
    fill(this.result, drawExport(await getExport(id)));
  }

  drawList() {
    if (!this.exports.length) {
      const text = "Choose a circuit, a dial and a form; the check appears here.";
      fill(this.list, this.job ? null : blank("No exports yet", text));
      return;
    }
    const links = this.exports.map((id) => h("li", {}, h("a", { href: address("export", [id]) }, id)));
    fill(this.list, h("section", { class: "card" }, h("h2", {}, "Exports"), h("ul", { class: "plain-list" }, links)));
  }

  leave() {
    this.unwatch?.();
  }
}

function nothingYet() {
  const discover = h("a", { class: "button primary", href: "#/discover" }, "Discover a circuit");
  return blank("Nothing to export yet", "An export takes a circuit at a dial.", discover);
}

/** @param {HTMLElement} main @param {string} id */
async function showExport(main, id) {
  fill(main, loading());
  try {
    const exported = drawExport(await getExport(id));
    const back = h("p", {}, h("a", { href: "#/export" }, "← All exports"));
    fill(main, h("div", { class: "page wide" }, back, h("h1", {}, id), exported));
  } catch (error) {
    fill(main, problem(error, h("a", { class: "button", href: "#/export" }, "All exports")));
  }
}
