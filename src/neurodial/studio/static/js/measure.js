// Measure: evaluations and frontiers with progress; their reports; runs side by side.
import { get, post } from "./api.js";
import { blank, button, field, fill, h, loading, number, percent, problem, select } from "./dom.js";
import { keep, recall } from "./keep.js";
import { address, remember } from "./route.js";
import { progressOf, watchJob } from "./watch.js";
import { explain } from "./words.js";

const START = {
  kind: "evaluate",
  circuits: [],
  prompts: "refusal",
  dials: "0.5, 1",
  against: [],
  limit: 8,
  neutral: 8,
  over_refusal: 0,
  perplexity: 0,
  questions: 0,
  max_new_tokens: 48,
};

export function show(main, { rest, query }) {
  const page = new Measure(main, query);
  if (rest[0] === "report") page.report(rest[1], rest[2] || "report");
  else if (rest[0] === "compare") page.compare(rest[1], rest[2]);
  else page.start();
  return () => page.leave();
}

class Measure {
  constructor(main, query) {
    this.main = main;
    this.form = { ...START, ...recall("measure", {}) };
    this.job = query.get("job") ? Number(query.get("job")) : null;
  }

  async start() {
    fill(this.main, loading());
    try {
      [this.circuits, this.sets, this.methods, this.reports] = await Promise.all([
        get("/api/circuits"),
        get("/api/prompt-sets"),
        get("/api/methods"),
        get("/api/reports"),
      ]);
    } catch (error) {
      fill(this.main, problem(error));
      return;
    }
    const f = this.form;
    f.circuits = f.circuits.filter((id) => this.circuits.some((one) => one.id === id));
    if (!f.circuits.length && this.circuits.length) f.circuits = [this.circuits[0].id];
    if (!this.sets.some((set) => set.id === f.prompts)) f.prompts = "refusal";
    this.result = h("div");
    this.list = h("div");
    this.formElement = h("form", {
      class: "side",
      onsubmit: (event) => {
        event.preventDefault();
        this.run();
      },
    });
    fill(this.main, h("div", { class: "page wide split" }, this.formElement, h("div", {}, this.result, this.list)));
    this.drawForm();
    this.drawReports();
    if (this.job) this.watch(this.job);
  }

  set(key, value) {
    this.form[key] = value;
    keep("measure", this.form);
  }

  drawForm() {
    const f = this.form;
    const numeric = (key, label, low, high, help) =>
      field(
        label,
        h("input", {
          type: "number",
          min: low,
          max: high,
          step: 1,
          value: f[key],
          required: true,
          onchange: (event) => {
            if (event.target.value !== "") this.set(key, event.target.valueAsNumber);
          },
        }),
        help,
      );
    const ticks = (key, options) =>
      h(
        "div",
        { class: "ticks-list" },
        options.map(([value, text]) =>
          h(
            "label",
            { class: "row tight" },
            h("input", {
              type: "checkbox",
              value,
              checked: f[key].includes(value),
              onchange: (event) =>
                this.set(key, event.target.checked ? [...f[key], value] : f[key].filter((one) => one !== value)),
            }),
            text,
          ),
        ),
      );
    fill(
      this.formElement,
      h("h1", {}, "Measure"),
      h("p", { class: "faint" }, "What the dial did on held-out prompts, and what it cost."),
      field(
        "What",
        select(
          [
            ["evaluate", "Evaluation: answers at each dial"],
            ["frontier", "Frontier: behaviour left against damage"],
          ],
          f.kind,
          (value) => {
            this.set("kind", value);
            this.drawForm();
          },
        ),
      ),
      h(
        "fieldset",
        {},
        h("legend", {}, "Circuits"),
        this.circuits.length
          ? ticks(
              "circuits",
              this.circuits.map((one) => [one.id, one.name]),
            )
          : h("p", { class: "faint" }, "None yet: ", h("a", { href: "#/discover" }, "discover one"), "."),
      ),
      field(
        "Prompts, their test split",
        select(
          this.sets.map((set) => [set.id, set.title || set.id]),
          f.prompts,
          (value) => this.set("prompts", value),
        ),
      ),
      field(
        "Dials",
        h("input", {
          type: "text",
          value: f.dials,
          required: true,
          pattern: "\\s*-?[\\d.]+(\\s*,\\s*-?[\\d.]+)*\\s*",
          onchange: (event) => this.set("dials", event.target.value),
        }),
        "Numbers between commas; 0 is always measured beside them.",
      ),
      h(
        "div",
        { class: "row pair" },
        numeric("limit", "Test prompts a side", 1, 2000),
        numeric("max_new_tokens", "Longest answer", 1, 2048),
      ),
      h(
        "details",
        {},
        h("summary", {}, "More measures and other methods"),
        h(
          "div",
          { class: "row pair" },
          numeric("neutral", "Neutral prompts (KL)", 0, 500),
          numeric("over_refusal", "Over-refusal prompts", 0, 500),
        ),
        h(
          "div",
          { class: "row pair" },
          numeric("perplexity", "Texts for perplexity", 0, 500),
          numeric("questions", "Multiple-choice questions", 0, 2000),
        ),
        h(
          "fieldset",
          {},
          h("legend", {}, "Against"),
          ticks(
            "against",
            this.methods.map((name) => [name, name]),
          ),
        ),
      ),
      h(
        "div",
        { class: "row" },
        (this.startButton = h(
          "button",
          { type: "submit", class: "primary", disabled: !this.circuits.length },
          "Measure",
        )),
        h("small", { class: "faint" }, "Small numbers are a first look; the interval says how little they prove."),
      ),
    );
  }

  async run() {
    const f = this.form;
    try {
      const job = await post("/api/measurements", {
        ...f,
        dials: f.dials
          .split(",")
          .map(Number)
          .filter((one) => one !== 0),
      });
      this.job = job.id;
      remember("measure", [], { job: job.id });
      this.watch(job.id);
    } catch (error) {
      fill(this.result, problem(error));
    }
  }

  watch(number) {
    if (this.stop) this.stop();
    this.startButton.disabled = true;
    const free = () => {
      this.startButton.disabled = false;
    };
    this.stop = watchJob(number, {
      onprogress: (job) =>
        fill(this.result, progressOf(job.kind === "frontier" ? "Measuring the frontier" : "Evaluating", job)),
      ondone: async () => {
        free();
        const { report } = await get(`/api/jobs/${number}/result`);
        this.reports = await get("/api/reports");
        this.drawReports();
        const parts = this.reports.find((one) => one.id === report).parts;
        fill(
          this.result,
          h("section", { class: "card" }, h("h2", {}, "Done"), h("div", { class: "table-box" }, loading())),
        );
        try {
          fill(
            this.result.firstChild,
            h(
              "div",
              { class: "row spread" },
              h("h2", {}, "Done"),
              h(
                "a",
                { class: "button primary", href: address("measure", ["report", report, parts[0]]) },
                "Open the report",
              ),
            ),
            summary(await get(`/api/reports/${report}/${parts[0]}`)),
          );
        } catch (error) {
          fill(this.result, problem(error));
        }
      },
      onfail: (words) => {
        free();
        if (words.forgotten) {
          fill(this.result);
          remember("measure", [], {});
        } else
          fill(
            this.result,
            problem(
              { words },
              button("Try again", () => this.run()),
            ),
          );
      },
      oncancel: () => {
        free();
        fill(
          this.result,
          h(
            "div",
            { class: "card soft" },
            h("p", {}, "Cancelled. What was finished is kept: the same measurement goes on where it stopped."),
            button("Go on", () => this.run()),
          ),
        );
      },
    });
  }

  drawReports() {
    if (!this.reports.length) {
      fill(
        this.list,
        this.job
          ? null
          : blank(
              "No reports yet",
              "Choose a circuit and a few prompts at the left; a small evaluation of the demo model takes a minute or two.",
            ),
      );
      return;
    }
    const flat = this.reports.flatMap((one) =>
      one.parts.map((part) => [`${one.id}/${part}`, part === "report" ? one.id : `${one.id}, ${part}`]),
    );
    let first = flat[0][0];
    let second = (flat[1] || flat[0])[0];
    fill(
      this.list,
      h(
        "section",
        { class: "card" },
        h("h2", {}, "Reports"),
        h(
          "ul",
          { class: "plain-list" },
          flat.map(([path, text]) =>
            h("li", {}, h("a", { href: address("measure", ["report", ...path.split("/")]) }, text)),
          ),
        ),
        flat.length > 1
          ? h(
              "div",
              { class: "row" },
              field(
                "Compare",
                select(flat, first, (value) => {
                  first = value;
                }),
              ),
              field(
                "with",
                select(flat, second, (value) => {
                  second = value;
                }),
              ),
              button("Side by side", () => {
                location.hash = address("measure", ["compare", first.replace("/", "|"), second.replace("/", "|")]);
              }),
            )
          : null,
      ),
    );
  }

  async report(id, part) {
    fill(this.main, loading());
    try {
      const found = await get(`/api/reports/${encodeURIComponent(id)}/${encodeURIComponent(part)}`);
      const page = `/api/reports/${encodeURIComponent(id)}/${encodeURIComponent(part)}/page`;
      fill(
        this.main,
        h(
          "div",
          { class: "page wide" },
          h("p", {}, h("a", { href: "#/measure" }, "← All measurements")),
          h(
            "div",
            { class: "row spread" },
            h(
              "div",
              {},
              h("h1", {}, `Steering ${found.behaviour}`),
              h("p", { class: "faint" }, `${id} · ${found.model} · ${found.created}`),
            ),
            h("a", { class: "button", href: page, target: "_blank", rel: "noopener" }, "Open the full report in a tab"),
          ),
          h("section", { class: "card" }, h("h2", {}, "The numbers"), summary(found)),
          found.figures
            ? h(
                "section",
                { class: "card" },
                h("h2", {}, "Frontier", explain("area")),
                h(
                  "table",
                  { class: "plain" },
                  h(
                    "thead",
                    {},
                    h(
                      "tr",
                      {},
                      ["method", "area to 0.1 nats", "left at 0.1 nats"].map((text) => h("th", { scope: "col" }, text)),
                    ),
                  ),
                  h(
                    "tbody",
                    {},
                    found.figures.map((one) =>
                      h(
                        "tr",
                        {},
                        h("th", { scope: "row" }, one.label),
                        h("td", {}, number(one.area)),
                        h("td", {}, percent(one.left)),
                      ),
                    ),
                  ),
                ),
              )
            : null,
          h("iframe", { class: "report", src: page, sandbox: "", title: "The full report" }),
        ),
      );
    } catch (error) {
      fill(this.main, problem(error, h("a", { class: "button", href: "#/measure" }, "All measurements")));
    }
  }

  async compare(first, second) {
    fill(this.main, loading());
    try {
      const [one, two] = await Promise.all(
        [first, second].map((path) => get(`/api/reports/${path.split("|").map(encodeURIComponent).join("/")}`)),
      );
      fill(
        this.main,
        h(
          "div",
          { class: "page wide" },
          h("p", {}, h("a", { href: "#/measure" }, "← All measurements")),
          h("h1", {}, "Two runs side by side"),
          [one, two].map((found) =>
            h(
              "section",
              { class: "card" },
              h(
                "h2",
                {},
                h("a", { href: address("measure", ["report", found.id, found.part]) }, found.id),
                found.part === "report" ? "" : `, ${found.part}`,
              ),
              h("p", { class: "faint" }, `${found.model} · ${found.created}`),
              summary(found),
            ),
          ),
          h("section", { class: "card" }, h("h2", {}, "Same method, same dial"), shared(one, two)),
        ),
      );
    } catch (error) {
      fill(this.main, problem(error));
    }
  }

  leave() {
    if (this.stop) this.stop();
  }
}

const shown = (metric, value) =>
  value === null || value === undefined ? "–" : metric.is_share ? percent(value) : number(value);

const ORDER = [
  "opener",
  "kl",
  "margin",
  "opposite",
  "over_refusal",
  "degenerate",
  "accuracy",
  "perplexity",
  "repetition",
];

function columns(found) {
  const names = Object.keys(found.metrics);
  const place = (name) => (name === found.headline ? -1 : ORDER.includes(name) ? ORDER.indexOf(name) : 50);
  return names.sort((one, two) => place(one) - place(two));
}

// Arms by metrics, each number with its interval, each heading with its definition.
function summary(found) {
  const box = h("div");
  const main = columns(found).filter((name) => name === found.headline || ORDER.includes(name));
  const draw = (names, every) =>
    fill(
      box,
      numbers(found, names),
      names.length === columns(found).length && !every
        ? null
        : button(
            every ? "Fewer numbers" : `All ${columns(found).length} numbers`,
            () => draw(every ? main : columns(found), !every),
            { class: "link" },
          ),
    );
  draw(main, false);
  return box;
}

function numbers(found, names) {
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Numbers of the report" },
    h(
      "table",
      { class: "plain numbers-table" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "method"),
          h("th", { scope: "col" }, "dial"),
          names.map((name) =>
            h(
              "th",
              { scope: "col" },
              found.metrics[name].title,
              explain(name, [found.metrics[name].title, found.metrics[name].explanation]),
            ),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        found.arms.map((arm) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, arm.label),
            h("td", {}, number(arm.dial)),
            names.map((name) => {
              const value = arm.metrics[name];
              if (!value) return h("td", {}, "–");
              const metric = found.metrics[name];
              return h(
                "td",
                {},
                shown(metric, value.value),
                value.low === null || value.low === undefined
                  ? null
                  : h("small", {}, ` ${shown(metric, value.low)} to ${shown(metric, value.high)}, n ${value.n}`),
              );
            }),
          ),
        ),
      ),
    ),
  );
}

function shared(one, two) {
  const rows = one.arms.flatMap((arm) =>
    two.arms.filter((other) => other.label === arm.label && other.dial === arm.dial).map((other) => [arm, other]),
  );
  const names = columns(one).filter((name) => two.metrics[name]);
  if (!rows.length) return h("p", { class: "faint" }, "The two runs have no method at the same dial in common.");
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Differences of the runs" },
    h(
      "table",
      { class: "plain" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "method"),
          h("th", { scope: "col" }, "dial"),
          names.map((name) => h("th", { scope: "col" }, one.metrics[name].title)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map(([arm, other]) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, arm.label),
            h("td", {}, number(arm.dial)),
            names.map((name) =>
              h(
                "td",
                {},
                shown(one.metrics[name], arm.metrics[name] && arm.metrics[name].value),
                " → ",
                shown(one.metrics[name], other.metrics[name] && other.metrics[name].value),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
