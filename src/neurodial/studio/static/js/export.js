// Export: a circuit at its dial as files for other engines, with the proof that they do what the dial does.
import { get, post } from "./api.js";
import { blank, button, field, fill, h, loading, number, percent, problem, select, toast } from "./dom.js";
import { dial } from "./dial.js";
import { keep, recall, switchedOff } from "./keep.js";
import { address, remember } from "./route.js";
import { progressOf, watchJob } from "./watch.js";
import { explain } from "./words.js";

const ROUTES = [
  ["lora", "LoRA adapter", "PEFT, transformers, vLLM. Its strength is the dial, so it stays a dial."],
  ["ia3", "IA³ adapter", "PEFT. Exactly the scaling, fixed at this dial."],
  ["weights", "Whole model", "Any engine that takes the base model. Fixed at this dial, no cost at run time."],
  ["vllm", "vLLM bundle", "A LoRA and what the vLLM plugin needs for a strength with each request."],
  ["gguf-lora", "GGUF adapter", "llama.cpp and LM Studio. Its strength is the dial."],
  ["gguf", "Baked GGUF", "llama.cpp, Ollama, LM Studio. The GGUF file itself, fixed at this dial."],
];

export function show(main, { rest, query, model }) {
  const page = new Export(main, query, model);
  if (rest[0]) page.one(rest[0]);
  else page.start();
  return () => page.leave();
}

class Export {
  constructor(main, query, model) {
    this.main = main;
    this.model = model;
    this.form = { circuit: "", dial: 1, route: "lora", ...recall("export", {}) };
    if (query.get("route")) this.form.route = query.get("route");
    if (query.get("c")) {
      const [id, value] = query.get("c").split("@");
      this.form.circuit = id;
      if (Number.isFinite(Number(value))) this.form.dial = Number(value ?? 1);
    }
    this.job = query.get("job") ? Number(query.get("job")) : null;
  }

  async start() {
    fill(this.main, loading());
    try {
      [this.circuits, this.exports] = await Promise.all([get("/api/circuits"), get("/api/exports")]);
    } catch (error) {
      fill(this.main, problem(error));
      return;
    }
    if (!this.circuits.length) {
      fill(
        this.main,
        blank(
          "Nothing to export yet",
          "An export takes a circuit at a dial.",
          h("a", { class: "button primary", href: "#/discover" }, "Discover a circuit"),
        ),
      );
      return;
    }
    if (!this.circuits.some((one) => one.id === this.form.circuit)) this.form.circuit = this.circuits[0].id;
    this.result = h("div");
    this.side = h("form", {
      class: "side",
      onsubmit: (event) => {
        event.preventDefault();
        this.run();
      },
    });
    this.list = h("div");
    fill(this.main, h("div", { class: "page wide split" }, this.side, h("div", {}, this.result, this.list)));
    this.draw();
    this.drawList();
    if (this.job) this.watch(this.job);
  }

  set(key, value) {
    this.form[key] = value;
    keep("export", this.form);
    remember("export", [], {
      c: `${this.form.circuit}@${this.form.dial}`,
      route: this.form.route === "lora" ? "" : this.form.route,
      job: this.job,
    });
  }

  draw() {
    const f = this.form;
    const circuit = this.circuits.find((one) => one.id === f.circuit);
    const off = switchedOff(f.circuit).length;
    const turner = dial(
      {
        id: circuit.id,
        name: circuit.name,
        value: f.dial,
        direction: circuit.direction,
        neurons: circuit.neurons,
        off,
      },
      (value) => this.set("dial", value),
      () => {},
    );
    turner.querySelector("button").remove();
    fill(
      this.side,
      h("h1", {}, "Export"),
      h(
        "p",
        { class: "faint" },
        "Files that other engines load, checked against the circuit in this model before they are called done.",
      ),
      field(
        "Circuit",
        select(
          this.circuits.map((one) => [one.id, `${one.name} (${one.neurons} neurons)`]),
          f.circuit,
          (value) => {
            this.set("circuit", value);
            this.draw();
          },
        ),
      ),
      turner,
      off ? h("p", { class: "note" }, `${off} neurons are switched off; they are left out of the export.`) : null,
      h(
        "fieldset",
        {},
        h("legend", {}, "As"),
        ROUTES.map(([value, title, text]) =>
          h(
            "label",
            { class: "choice" },
            h("input", {
              type: "radio",
              name: "route",
              value,
              checked: f.route === value,
              onchange: () => this.set("route", value),
            }),
            h("span", {}, h("strong", {}, title), h("small", {}, text)),
          ),
        ),
      ),
      h(
        "div",
        { class: "row" },
        (this.startButton = h("button", { type: "submit", class: "primary" }, "Write and check")),
      ),
    );
  }

  async run() {
    const f = this.form;
    try {
      const job = await post("/api/exports", {
        circuits: [{ id: f.circuit, dial: f.dial, off: switchedOff(f.circuit) }],
        route: f.route,
        name: f.circuit,
      });
      this.job = job.id;
      this.set("route", f.route);
      this.watch(job.id);
    } catch (error) {
      fill(this.result, problem(error));
    }
  }

  watch(job) {
    if (this.stop) this.stop();
    this.startButton.disabled = true;
    const free = () => {
      this.startButton.disabled = false;
    };
    this.stop = watchJob(job, {
      onprogress: (state) => fill(this.result, progressOf("Writing and checking", state)),
      ondone: async () => {
        free();
        const { export: id } = await get(`/api/jobs/${job}/result`);
        this.exports = await get("/api/exports");
        this.drawList();
        fill(this.result, proof(await get(`/api/exports/${id}`)));
      },
      onfail: (words) => {
        free();
        if (words.forgotten) fill(this.result);
        else
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
        fill(this.result, h("div", { class: "card soft" }, h("p", {}, "Cancelled: nothing was left behind.")));
      },
    });
  }

  drawList() {
    fill(
      this.list,
      this.exports.length
        ? h(
            "section",
            { class: "card" },
            h("h2", {}, "Exports"),
            h(
              "ul",
              { class: "plain-list" },
              this.exports.map((id) => h("li", {}, h("a", { href: address("export", [id]) }, id))),
            ),
          )
        : this.job
          ? null
          : blank("No exports yet", "Choose a circuit, a dial and a form; the proof appears here."),
    );
  }

  async one(id) {
    fill(this.main, loading());
    try {
      fill(
        this.main,
        h(
          "div",
          { class: "page wide" },
          h("p", {}, h("a", { href: "#/export" }, "← All exports")),
          h("h1", {}, id),
          proof(await get(`/api/exports/${encodeURIComponent(id)}`)),
        ),
      );
    } catch (error) {
      fill(this.main, problem(error, h("a", { class: "button", href: "#/export" }, "All exports")));
    }
  }

  leave() {
    if (this.stop) this.stop();
  }
}

function proof(found) {
  const all = found.proof.comparisons.every((one) => one.agrees);
  return h(
    "div",
    { class: "stack" },
    h(
      "section",
      { class: "card" },
      h(
        "p",
        { class: `verdict ${all ? "good" : "bad"}` },
        all
          ? "✓ The files do what the dial does, and differ from the unsteered model."
          : "✗ The files do not do what the dial does.",
      ),
      h(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "The proof" },
        h(
          "table",
          { class: "plain" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "loaded by"),
              h("th", { scope: "col" }, "strength"),
              h("th", { scope: "col" }, "files against hook", explain("difference")),
              h("th", { scope: "col" }, "allowed"),
              h("th", { scope: "col" }, "hook against unsteered"),
              h("th", { scope: "col" }, "same top token"),
            ),
          ),
          h(
            "tbody",
            {},
            found.proof.comparisons.map((one) =>
              h(
                "tr",
                {},
                h("th", { scope: "row" }, one.engine),
                h("td", {}, number(one.strength)),
                h("td", {}, number(one.difference)),
                h("td", {}, number(one.tolerance)),
                h("td", {}, number(one.effect)),
                h("td", {}, percent(one.same_top)),
              ),
            ),
          ),
        ),
      ),
      h(
        "p",
        { class: "faint" },
        `Largest difference of a log-probability in nats, over ${found.proof.comparisons[0].prompts} prompts and ${found.proof.comparisons[0].places} places, ${found.proof.precision}. ${found.one_dial ? `Strength 1 is dial ${number(found.strength)}` : "Strength 1 is these dials together"}; strength 0 is the unsteered model.`,
      ),
    ),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "How engines load it"),
      h(
        "ul",
        { class: "plain-list" },
        found.engines.map((one) =>
          h(
            "li",
            {},
            h("span", { class: one.can ? "yes" : "no" }, one.can ? "✓" : "✗"),
            " ",
            h("strong", {}, one.engine),
            ": ",
            one.how,
          ),
        ),
      ),
      found.adapter ? h("p", { class: "faint" }, `The model's own adapter travels: ${found.adapter.how}.`) : null,
    ),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Files"),
      h(
        "p",
        { class: "row" },
        h("code", { class: "wrap" }, found.folder),
        button(
          "Copy the path",
          async () => {
            try {
              await navigator.clipboard.writeText(found.folder);
              toast("Copied");
            } catch {
              toast("This browser does not allow it");
            }
          },
          { class: "small" },
        ),
      ),
      h(
        "ul",
        { class: "plain-list" },
        found.files.map(([name, size], place) =>
          h(
            "li",
            { class: "row spread" },
            h(
              "a",
              { href: `/api/exports/${encodeURIComponent(found.id)}/files/${place}`, download: name.split("/").at(-1) },
              name,
            ),
            h("span", { class: "faint" }, bytes(size)),
          ),
        ),
      ),
    ),
  );
}

const bytes = (size) =>
  size > 1e6 ? `${number(size / 1e6)} MB` : size > 1e3 ? `${number(size / 1e3)} kB` : `${size} B`;
