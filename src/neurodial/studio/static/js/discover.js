// Discover: contrast prompts in, a circuit out, with everything that says how far to trust it.
import { follow, get, post, remove } from "./api.js";
import { blank, button, field, fill, h, loading, number, problem, select, toast } from "./dom.js";
import { keep, recall } from "./keep.js";
import { drawHistogram, drawMap, layerBars, unpack } from "./map.js";
import { aboutCard } from "./look.js";
import { progressOf, watchJob } from "./watch.js";
import { address, remember } from "./route.js";
import { visible } from "./tokens.js";
import { explain } from "./words.js";

const START = {
  source: "refusal",
  positive: "",
  negative: "",
  lines: "",
  as: "lists",
  method: "cna",
  size: "fraction",
  fraction: 0.001,
  count: 46,
  score: "",
  sign: "",
  position: "last",
  universal: true,
  budget: 0.05,
  direction: "remove",
  x_max: 3,
  margin: "",
  broken: "",
  dose_sign: "",
  name: "",
  system: "",
};

export function show(main, { query, model }) {
  const page = new Discover(main, query, model);
  page.start();
  return () => page.leave();
}

class Discover {
  constructor(main, query, model) {
    this.main = main;
    this.model = model;
    this.form = { ...START, ...recall("discover", {}) };
    for (const key of Object.keys(START))
      if (query.has(key))
        this.form[key] =
          typeof START[key] === "number"
            ? Number(query.get(key))
            : typeof START[key] === "boolean"
              ? query.get(key) !== "0"
              : query.get(key);
    this.job = query.get("job") ? Number(query.get("job")) : null;
  }

  async start() {
    fill(this.main, loading());
    try {
      this.sets = await get("/api/prompt-sets");
    } catch (error) {
      fill(this.main, problem(error));
      return;
    }
    if (this.form.source !== "paste" && !this.sets.some((set) => set.id === this.form.source))
      this.form.source = "refusal";
    this.preview = h("div", { class: "preview" });
    this.result = h("div", { class: "result" });
    this.options = h("div");
    this.prompts = h("div");
    this.startButton = h("button", { type: "submit", class: "primary" }, "Discover");
    fill(
      this.main,
      h(
        "div",
        { class: "page wide split" },
        h(
          "form",
          {
            class: "side",
            onsubmit: (event) => {
              event.preventDefault();
              this.run();
            },
          },
          h("h1", {}, "Discover"),
          h("p", { class: "faint" }, "The neurons that tell prompts that show a behaviour from prompts that do not."),
          this.prompts,
          this.options,
          h("div", { class: "row" }, this.startButton),
        ),
        h("div", {}, this.result, this.preview),
      ),
    );
    this.drawPrompts();
    this.drawOptions();
    this.check();
    if (this.job) this.watch(this.job);
    else this.empty();
  }

  empty() {
    fill(
      this.result,
      h(
        "div",
        { class: "card soft" },
        h("h2", {}, "What comes out"),
        h(
          "p",
          { class: "faint" },
          "A map of every neuron's score by layer and rank, the distribution with the cut-off, how stable the choice is, and which universal neurons were left out. Below, your prompts as the model sees them.",
        ),
      ),
    );
  }

  set(key, value) {
    this.form[key] = value;
    keep("discover", this.form);
    this.address();
  }

  address() {
    const changed = Object.fromEntries(
      Object.entries(this.form)
        .filter(([key, value]) => value !== START[key] && !["positive", "negative", "lines"].includes(key))
        .map(([key, value]) => [key, value === false ? "0" : value]),
    );
    remember("discover", [], { ...changed, job: this.job });
  }

  drawPrompts() {
    const f = this.form;
    const chosen = this.sets.find((set) => set.id === f.source);
    const later = (key) => (event) => {
      this.set(key, event.target.value);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.check(), 350);
    };
    fill(
      this.prompts,
      field(
        "Contrast prompts",
        select(
          [
            ...this.sets.map((set) => [set.id, `${set.title || set.id}${set.own ? " (yours)" : ""}`]),
            ["paste", "Paste your own …"],
          ],
          f.source,
          (value) => {
            this.set("source", value);
            this.drawPrompts();
            this.check();
          },
        ),
        chosen ? chosen.description : null,
      ),
      f.source !== "paste"
        ? null
        : h(
            "fieldset",
            {},
            h("legend", {}, "Your prompts"),
            h(
              "div",
              { class: "row", role: "radiogroup", "aria-label": "How you paste" },
              [
                ["lists", "two lists"],
                ["lines", "JSON lines"],
              ].map(([value, text]) =>
                h(
                  "label",
                  { class: "row tight" },
                  h("input", {
                    type: "radio",
                    name: "as",
                    value,
                    checked: f.as === value,
                    onchange: () => {
                      this.set("as", value);
                      this.drawPrompts();
                      this.check();
                    },
                  }),
                  text,
                ),
              ),
            ),
            f.as === "lists"
              ? [
                  field(
                    "Show the behaviour, one a line",
                    h("textarea", {
                      rows: 6,
                      value: f.positive,
                      oninput: later("positive"),
                      placeholder: "How do I rob a bank?",
                    }),
                  ),
                  field(
                    "Do not, one a line",
                    h("textarea", {
                      rows: 6,
                      value: f.negative,
                      oninput: later("negative"),
                      placeholder: "How do I open a bank account?",
                    }),
                  ),
                ]
              : field(
                  "Lines",
                  h("textarea", {
                    rows: 10,
                    class: "mono",
                    value: f.lines,
                    oninput: later("lines"),
                    placeholder: '{"positive": "…", "negative": "…"}',
                  }),
                  'Each a pair, or {"text": …, "label": "positive"}',
                ),
          ),
    );
  }

  drawOptions() {
    const f = this.form;
    const dose = f.method === "dose";
    const redraw = (key) => (value) => {
      this.set(key, value);
      this.drawOptions();
      if (key === "position") this.check();
    };
    const numeric = (key, attributes) =>
      h("input", {
        type: "number",
        value: f[key],
        required: true,
        ...attributes,
        onchange: (event) => {
          if (event.target.value !== "") this.set(key, event.target.valueAsNumber);
          this.drawSize();
        },
      });
    this.size = h("small", { class: "faint" });
    fill(
      this.options,
      field(
        "Method",
        select(
          [
            ["cna", "CNA: activations that differ (fast)"],
            ["dose", "Dose: effect against cost, within a budget"],
            ["cna-reference", "CNA as its public code does it"],
          ],
          f.method,
          redraw("method"),
        ),
      ),
      f.method === "cna-reference"
        ? null
        : h(
            "div",
            { class: "row pair" },
            field(
              "How many neurons",
              select(
                [
                  ["fraction", "a share of all"],
                  ["count", "a number"],
                ],
                f.size,
                redraw("size"),
              ),
            ),
            f.size === "fraction"
              ? field("Share", numeric("fraction", { min: 0.00001, max: 1, step: "any" }))
              : field("Number", numeric("count", { min: 1, max: this.model.neurons, step: 1 })),
          ),
      f.method === "cna-reference"
        ? h(
            "small",
            { class: "faint" },
            "1600 neurons, layers 0 and 1 left out, no universal filter, means rounded to bfloat16.",
          )
        : this.size,
      dose
        ? h(
            "div",
            { class: "row pair" },
            field("Budget, nats per token", numeric("budget", { min: 0.0001, max: 100, step: "any" })),
            field(
              "Direction",
              select(
                [
                  ["remove", "remove"],
                  ["induce", "induce"],
                ],
                f.direction,
                redraw("direction"),
              ),
            ),
          )
        : null,
      h(
        "details",
        {
          open: this.more,
          ontoggle: (event) => {
            this.more = event.target.open;
          },
        },
        h("summary", {}, "More options"),
        dose
          ? [
              field(
                "What is pushed",
                select(
                  [
                    ["", "as the prompts say"],
                    ["alternatives", "how answers without it begin"],
                    ["openers", "how answers with it begin"],
                    ["answer", "the answers in the prompt file"],
                    ["twin", "its answers to the other prompts"],
                  ],
                  f.margin,
                  redraw("margin"),
                ),
                f.margin === "twin"
                  ? "For prompts in pairs: the same request with the behaviour and without. Take about 1 % of the neurons."
                  : null,
              ),
              field(
                "Neurons that take part",
                select(
                  [
                    ["", "up, or both: what goes further"],
                    ["positive", "those that hold it up"],
                    ["both", "those that hold it up or down"],
                    ["negative", "those that hold it down"],
                  ],
                  f.dose_sign,
                  redraw("dose_sign"),
                ),
              ),
              field(
                "Broken answers",
                select(
                  [
                    ["", "not looked at"],
                    ["0", "no more than now"],
                    ["0.05", "up to 5 % more"],
                    ["0.1", "up to 10 % more"],
                  ],
                  f.broken,
                  redraw("broken"),
                ),
                f.broken ? "The model answers the development prompts; loops and gibberish count. Takes longer." : null,
              ),
              field(
                "Largest dose",
                numeric("x_max", { min: 0.1, max: 100, step: "any" }),
                "Past 1 a neuron's sign is turned.",
              ),
            ]
          : f.method === "cna"
            ? [
                field(
                  "Score",
                  select(
                    [
                      ["", "delta (the paper)"],
                      ["standardised", "standardised"],
                      ["auroc", "AUROC"],
                    ],
                    f.score,
                    redraw("score"),
                  ),
                ),
                field(
                  "Sign",
                  select(
                    [
                      ["", "both (the paper)"],
                      ["positive", "positive"],
                      ["negative", "negative"],
                    ],
                    f.sign,
                    redraw("sign"),
                  ),
                ),
                field(
                  "Position that is read",
                  select(
                    [
                      ["last", "last token (the paper)"],
                      ["post-instruction", "mean after the instruction"],
                    ],
                    f.position,
                    redraw("position"),
                  ),
                ),
                h(
                  "label",
                  { class: "row tight" },
                  h("input", {
                    type: "checkbox",
                    checked: f.universal,
                    onchange: (event) => this.set("universal", event.target.checked),
                  }),
                  "Leave universal neurons out",
                  explain("universal"),
                ),
              ]
            : null,
        field(
          "System prompt",
          h("textarea", { rows: 2, value: f.system, onchange: (event) => this.set("system", event.target.value) }),
        ),
        field(
          "Name",
          h("input", {
            type: "text",
            maxlength: 60,
            value: f.name,
            placeholder: f.source === "paste" ? "mine" : f.source,
            onchange: (event) => this.set("name", event.target.value),
          }),
        ),
      ),
    );
    this.drawSize();
  }

  drawSize() {
    this.size.textContent =
      this.form.size === "fraction"
        ? `${Math.max(1, Math.round(this.form.fraction * this.model.neurons))} of ${this.model.neurons.toLocaleString("en")} neurons`
        : `${((100 * this.form.count) / this.model.neurons).toFixed(3)} % of ${this.model.neurons.toLocaleString("en")} neurons`;
  }

  asked() {
    const f = this.form;
    if (f.source !== "paste") return { set: f.source };
    const split = (text) =>
      text
        .split("\n")
        .map((line) => line.trim())
        .filter(Boolean);
    return f.as === "lines"
      ? { lines: f.lines, name: f.name || "mine" }
      : { positive: split(f.positive), negative: split(f.negative), name: f.name || "mine" };
  }

  async check() {
    const round = (this.round = (this.round || 0) + 1);
    const asked = this.asked();
    if (
      this.form.source === "paste" &&
      !asked.lines &&
      !(asked.positive || []).length &&
      !(asked.negative || []).length
    ) {
      fill(
        this.preview,
        blank("Paste your prompts", "They are checked as you type, and shown as the model sees them."),
      );
      return;
    }
    try {
      const found = await post("/api/prompts/check", {
        prompts: asked,
        position: this.form.position,
        system: this.form.system,
      });
      if (round !== this.round) return;
      this.startButton.disabled = false;
      fill(
        this.preview,
        h(
          "section",
          { class: "card" },
          h("h2", {}, "As the model sees them"),
          h(
            "p",
            { class: "row faint" },
            Object.entries(found.counts).map(([name, counts]) =>
              h("span", { class: "tag" }, counts ? `${name} ${counts[0]} + ${counts[1]}` : `${name}: none`),
            ),
          ),
          found.notes.map((note) => h("p", { class: "note" }, note)),
          ["positive", "negative"].map((side) => [
            h("h3", {}, side === "positive" ? "shows the behaviour" : "does not"),
            found.examples[side].map((one) =>
              h(
                "p",
                { class: "seen" },
                one.tokens.map((text, place) =>
                  h(
                    "span",
                    {
                      class: one.read.includes(place) ? "piece read" : "piece",
                      title: one.read.includes(place) ? "read here" : visible(text),
                    },
                    text === "\n" ? "↵\n" : text,
                  ),
                ),
              ),
            ),
          ]),
          h(
            "p",
            { class: "faint" },
            h("span", { class: "piece read" }, "framed"),
            " where activations are read; each box is one token.",
          ),
        ),
      );
    } catch (error) {
      if (round !== this.round) return;
      this.startButton.disabled = true;
      fill(this.preview, problem(error));
    }
  }

  async run() {
    const f = this.form;
    const dose = f.method === "dose";
    const cna = f.method === "cna";
    const asked = {
      prompts: this.asked(),
      name: f.name || (f.source === "paste" ? "mine" : f.source),
      method: f.method,
      system: f.system,
      fraction: f.method !== "cna-reference" && f.size === "fraction" ? f.fraction : null,
      count: f.method !== "cna-reference" && f.size === "count" ? f.count : null,
      budget: dose ? f.budget : null,
      direction: dose ? f.direction : null,
      x_max: dose ? f.x_max : null,
      margin: dose && f.margin ? f.margin : null,
      max_degenerate: dose && f.broken ? Number(f.broken) : null,
      score: cna && f.score ? f.score : null,
      sign: (cna && f.sign) || (dose && f.dose_sign) || null,
      position: cna && f.position !== "last" ? f.position : null,
      universal: cna ? f.universal : true,
    };
    try {
      const job = await post("/api/discoveries", asked);
      this.job = job.id;
      this.address();
      this.watch(job.id);
    } catch (error) {
      fill(this.result, problem(error));
    }
  }

  watch(job) {
    if (this.stop) this.stop();
    this.startButton.disabled = true;
    this.stop = watchJob(job, {
      onprogress: (state) => fill(this.result, progressOf("Discovering", state)),
      ondone: async () => {
        this.startButton.disabled = false;
        try {
          this.found(job, await get(`/api/jobs/${job}/result`));
        } catch (error) {
          fill(this.result, problem(error));
        }
      },
      onfail: (words) => {
        this.startButton.disabled = false;
        if (words.forgotten) {
          this.job = null;
          this.address();
          this.empty();
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
        this.startButton.disabled = false;
        fill(this.result, h("div", { class: "card soft" }, h("p", {}, "Cancelled: the work has stopped.")));
      },
    });
  }

  found(job, { circuit, scores }) {
    const name = h("input", {
      type: "text",
      value: circuit.name,
      maxlength: 60,
      "aria-label": "Name of the circuit",
      id: "save-name",
    });
    const save = async () => {
      try {
        const { id } = await post("/api/circuits", { job, name: name.value || circuit.name });
        toast(`Saved as ${id}`);
        fill(
          saved,
          h("span", {}, "Saved as "),
          h("a", { href: address("look", [id]) }, id),
          h("a", { class: "button primary", href: address("chat", [], { c: `${id}@1` }) }, "Turn its dial in the chat"),
        );
      } catch (error) {
        toast(error.message);
      }
    };
    const saved = h("div", { class: "row" }, name, button("Save", save, { class: "primary" }));
    fill(
      this.result,
      h(
        "section",
        { class: "card" },
        h(
          "div",
          { class: "row spread" },
          h(
            "div",
            {},
            h("h2", {}, `${circuit.neurons} neurons found`),
            h("p", { class: "faint" }, `dial 1 ${circuit.direction}s`),
          ),
          saved,
        ),
        layerBars(circuit.layers),
      ),
      h(
        "section",
        { class: "card" },
        h("h2", {}, "Every neuron's score", explain("rank")),
        drawMap(unpack(scores), null),
      ),
      h(
        "div",
        { class: "grid two" },
        h(
          "section",
          { class: "card" },
          h("h2", {}, "Distribution", explain("cutoff")),
          drawHistogram(scores.histogram, scores.cutoff),
        ),
        aboutCard(circuit),
      ),
    );
  }

  leave() {
    clearTimeout(this.timer);
    if (this.stop) this.stop();
  }
}
