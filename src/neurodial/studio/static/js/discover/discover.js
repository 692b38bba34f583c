// Discover: contrast prompts in, a circuit out, with everything that says how far to trust it.
import { button, form } from "../controls.js";
import { fill, h } from "../dom.js";
import { hint, loading, problem, soft } from "../messages.js";
import { jobIn } from "../route.js";
import { checkPrompts, getDiscovered, getOptions, listPromptSets, startDiscovery } from "../server.js";
import { progressOf, watchJob } from "../watch.js";
import { askedDiscovery, askedPrompts, givenOf, keepForm, PASTE, readForm, rememberForm } from "./form.js";
import { drawFound } from "./found.js";
import { Options } from "./options.js";
import { drawNothing, drawPreview } from "./preview.js";
import { drawPrompts } from "./prompts.js";
/** @import { Given, Show, Watcher } from "../../../types/page.d.ts" */
/** @import { MethodForm, Model, PromptSet } from "../../../types/views.d.ts" */

/** @type {MethodForm[]} */
const NO_METHODS = [{ name: "cna", title: "", options: [] }]; // until the server has said which there are
const PAUSE = 350; // milliseconds after typing until prompts are checked
const OUTCOME =
  "A map of every neuron's score by layer and rank, the distribution with the cut-off, how stable the choice is, and " +
  "which universal neurons were left out. Below, your prompts as the model sees them.";

/** @type {Show} */
export function show(main, { query, model }) {
  const page = new Discover(main, query, model);
  page.start();
  return () => page.leave();
}

class Discover {
  /** @param {HTMLElement} main @param {URLSearchParams} query @param {Model} model */
  constructor(main, query, model) {
    this.main = main;
    this.query = query;
    this.model = model;
    this.form = readForm(query, NO_METHODS);
    this.job = jobIn(query);
    this.timer = 0;
    this.round = 0; // counts checks, so that an older one knows that it is
    /** @type {(() => void) | null} */
    this.unwatch = null;
    this.preview = h("div", { class: "preview" });
    this.result = h("div", { class: "result" });
    this.prompts = h("div");
    this.startButton = h("button", { type: "submit", class: "primary" }, "Discover");
    this.options = this.makeOptions(NO_METHODS);
  }

  async start() {
    fill(this.main, loading());
    try {
      const [sets, { methods }] = await Promise.all([listPromptSets(), getOptions()]);
      this.form = readForm(this.query, methods);
      this.options = this.makeOptions(methods);
      this.draw(sets);
    } catch (error) {
      fill(this.main, problem(error));
      return;
    }
    this.check();
    if (this.job) {
      this.watch(this.job);
    } else {
      this.empty();
    }
  }

  /** @param {MethodForm[]} methods */
  makeOptions(methods) {
    const doings = { changed: () => this.changed(), check: () => this.check() };
    return new Options(this.form, methods, this.model.neurons, doings);
  }

  /** @param {PromptSet[]} sets */
  draw(sets) {
    if (this.form.source !== PASTE && !sets.some((set) => set.id === this.form.source)) {
      this.form.source = "refusal";
    }
    const side = form(
      "side",
      () => this.run(),
      h("h1", {}, "Discover"),
      h("p", { class: "faint" }, "The neurons that tell prompts that show a behaviour from prompts that do not."),
      this.prompts,
      this.options.element,
      h("div", { class: "row" }, this.startButton),
    );
    fill(this.main, h("div", { class: "page wide split" }, side, h("div", {}, this.result, this.preview)));
    drawPrompts(this.prompts, this.form, sets, {
      set: (key, value) => this.set(key, value),
      check: () => this.check(),
      checkSoon: () => {
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.check(), PAUSE);
      },
    });
    this.options.draw();
  }

  empty() {
    const text = h("p", { class: "faint" }, OUTCOME);
    fill(this.result, h("div", { class: "card soft" }, h("h2", {}, "What comes out"), text));
  }

  /** @param {string} key @param {string} value */
  set(key, value) {
    Object.assign(this.form, { [key]: value });
    this.changed();
  }

  changed() {
    keepForm(this.form);
    this.remember();
  }

  remember() {
    rememberForm(this.form, this.options.method, this.job);
  }

  async check() {
    this.round += 1;
    const { round } = this;
    const prompts = askedPrompts(this.form);
    if (!prompts.set && !prompts.lines && !prompts.positive?.length && !prompts.negative?.length) {
      drawNothing(this.preview);
      return;
    }
    try {
      const checked = await checkPrompts({ prompts, ...asRead(givenOf(this.form)) });
      if (round === this.round) {
        drawPreview(this.preview, checked);
      }
    } catch (error) {
      if (round === this.round) {
        fill(this.preview, hint(error));
      }
    }
  }

  async run() {
    try {
      const job = await startDiscovery(askedDiscovery(this.form));
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
    return {
      onprogress: (state) => fill(this.result, progressOf("Discovering", state)),
      ondone: async () => {
        this.startButton.disabled = false;
        try {
          drawFound(this.result, job, await getDiscovered(job));
        } catch (error) {
          fill(this.result, problem(error));
        }
      },
      onfail: (words) => {
        this.startButton.disabled = false;
        if (words.forgotten) {
          this.job = null;
          this.remember();
          this.empty();
        } else {
          const again = button("Try again", () => this.run());
          fill(this.result, problem({ words }, again));
        }
      },
      oncancel: () => {
        this.startButton.disabled = false;
        fill(this.result, soft("Cancelled: the work has stopped."));
      },
    };
  }

  leave() {
    clearTimeout(this.timer);
    this.unwatch?.();
  }
}

/** What of the options changes how prompts are read. @param {Given} given */
const asRead = ({ position, system }) => ({
  ...(typeof position === "string" ? { position } : {}),
  ...(typeof system === "string" ? { system } : {}),
});
