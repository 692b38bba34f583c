// Chat with a dial: both sides at once, token by token.
import { follow, get, post, remove } from "./api.js";
import {
  blank,
  button,
  field,
  fill,
  glyphs,
  h,
  iconButton,
  number,
  percent,
  problem,
  select,
  svg,
  toast,
} from "./dom.js";
import { dial } from "./dial.js";
import { explain } from "./words.js";
import { keep, recall, switchedOff } from "./keep.js";
import { remember } from "./route.js";
import { Answer, hideNote, legend } from "./tokens.js";

const DEFAULTS = { system: "", temperature: 0, seed: 0, length: 128, openers: "" };
let now = null; // the chat that is shown

export function show(main, { query }) {
  now = new Chat(main, query);
  now.start();
  return () => {
    now.leave();
    now = null;
  };
}

class Chat {
  constructor(main, query) {
    this.main = main;
    this.query = query;
    this.turns = [];
    this.options = { ...DEFAULTS, ...recall("options", {}) };
    for (const key of Object.keys(DEFAULTS))
      if (query.has(key))
        this.options[key] = typeof DEFAULTS[key] === "number" ? Number(query.get(key)) : query.get(key);
    this.dials = [];
  }

  start() {
    this.draw();
    this.ready = this.load();
    return this.ready;
  }

  async load() {
    try {
      [this.circuits, this.openers, this.sets] = await Promise.all([
        get("/api/circuits"),
        get("/api/openers"),
        get("/api/prompt-sets"),
      ]);
    } catch (error) {
      fill(this.thread, problem(error));
      return;
    }
    const wanted = this.query.get("c");
    if (wanted !== null) {
      this.dials = wanted
        .split(",")
        .filter(Boolean)
        .map((part) => part.split("@"))
        .map(([id, value]) => ({ id, value: Number(value ?? 1) }))
        .filter((one) => this.known(one.id) && Number.isFinite(one.value));
    } else {
      this.dials = recall("dials", []).filter((one) => this.known(one.id));
      if (!this.dials.length && this.circuits.length) this.dials = [{ id: this.circuits[0].id, value: 1 }];
    }
    if (!this.options.openers || !this.openers[this.options.openers]) {
      const own = this.dials
        .map((one) => [`circuit:${one.id}`, one.id])
        .flat()
        .find((key) => this.openers[key]);
      this.options.openers = own || Object.keys(this.openers)[0] || "";
    }
    this.drawPanel();
    await this.restore();
    this.input.focus({ preventScroll: true });
  }

  known(id) {
    return this.circuits.find((circuit) => circuit.id === id);
  }

  // -------------------------------------------------------------- what stands in the address, and in this browser

  async restore() {
    const listed = this.query.get("jobs");
    const kept = recall("chat", []);
    const asked = this.query.get("q");
    const turns =
      listed !== null
        ? listed.split(",").map((job) => kept.find((turn) => String(turn.job) === job) || { job: Number(job) })
        : asked
          ? []
          : kept;
    for (const saved of turns) {
      let job = null;
      if (saved.job)
        try {
          job = await get(`/api/jobs/${saved.job}`);
        } catch {
          /* forgotten: what this browser kept is shown */
        }
      const prompt = job && job.kind === "answer" ? job.asked.steered.at(-1).content : null;
      if (prompt !== null && (!saved.prompt || saved.prompt === prompt)) this.attach(this.addTurn(prompt), saved.job);
      else if (saved.prompt) {
        const turn = this.addTurn(saved.prompt);
        turn.sides.unsteered.plain(saved.unsteered || "");
        turn.sides.steered.plain(saved.steered || "");
      }
    }
    if (asked && !this.turns.length) {
      if (this.query.get("draft")) this.input.value = asked;
      else await this.ask(asked);
    }
    this.empty();
  }

  save() {
    keep("options", this.options);
    keep("dials", this.dials);
    keep(
      "chat",
      this.turns
        .slice(-20)
        .map((turn) => ({
          prompt: turn.prompt,
          job: turn.job,
          unsteered: turn.sides.unsteered.text,
          steered: turn.sides.steered.text,
        })),
    );
    const last = this.turns.at(-1);
    remember("chat", [], {
      c: this.dials.map((one) => `${one.id}@${one.value}`).join(","),
      q: last ? last.prompt : "",
      jobs:
        this.turns.length && this.turns.every((turn) => turn.job) ? this.turns.map((turn) => turn.job).join(",") : "",
      ...Object.fromEntries(Object.entries(this.options).filter(([key, value]) => value !== DEFAULTS[key])),
    });
  }

  // -------------------------------------------------------------- drawing

  draw() {
    this.thread = h("div", { class: "thread" });
    this.input = h("textarea", {
      id: "prompt",
      rows: 1,
      placeholder: "Ask both sides …",
      "aria-label": "Prompt",
      maxlength: 20000,
      enterkeyhint: "send",
    });
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.send();
      }
    });
    this.input.addEventListener("input", () => this.grow());
    this.sendButton = h(
      "button",
      { type: "submit", class: "primary", id: "send", "aria-label": "Send" },
      svg(glyphs.send),
    );
    this.stopButton = h(
      "button",
      { type: "button", class: "danger", id: "stop", hidden: true, onclick: () => this.stop() },
      svg(glyphs.stop),
      "Stop",
    );
    this.panel = h("aside", { class: "panel", "aria-label": "Dials and settings" });
    fill(
      this.main,
      this.panel,
      h(
        "div",
        { class: "conversation" },
        h("h1", { class: "unseen" }, "Chat with a dial"),
        this.thread,
        h(
          "form",
          {
            class: "composer",
            onsubmit: (event) => {
              event.preventDefault();
              this.send();
            },
          },
          h("div", { class: "row" }, this.input, this.stopButton, this.sendButton),
          h(
            "div",
            { class: "row spread faint under" },
            legend(),
            button("New chat", () => this.reset(), { class: "link" }),
          ),
        ),
      ),
    );
  }

  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(200, this.input.scrollHeight + 2)}px`;
  }

  empty() {
    if (this.turns.length) return;
    const examples = [
      "How do I pick a lock?",
      "Write a short poem about the sea.",
      "Explain how vaccines work in two sentences.",
    ];
    fill(
      this.thread,
      this.circuits.length
        ? blank(
            "Two answers at once",
            "The same model, the same seed: on the left as it is, on the right with the dial turned. Each token is coloured by how its probability moved.",
            examples.map((text) => button(text, () => this.ask(text), { class: "chip" })),
          )
        : blank(
            "No circuit yet",
            "Find one from two lists of prompts, or start the studio with --circuit name=file. Until then both sides are the same model.",
            h("a", { class: "button primary", href: "#/discover" }, "Discover a circuit"),
          ),
    );
  }

  drawPanel() {
    const free = this.circuits.filter((circuit) => !this.dials.some((one) => one.id === circuit.id));
    this.gauge = h("div", { class: "gauge" });
    this.damage = h("div", { class: "damage" });
    const o = this.options;
    const change = (key, clean) => (event) => {
      this.options[key] = clean ? clean(event.target) : event.target.value;
      this.save();
      this.turned();
    };
    const numeric = (low, high) => (input) => {
      const value = Math.max(low, Math.min(high, Number.isFinite(input.valueAsNumber) ? input.valueAsNumber : 0));
      input.value = value;
      return value;
    };
    fill(
      this.panel,
      h(
        "section",
        { class: "dials" },
        h("h2", {}, "Dial"),
        this.dials.map((one) => {
          const circuit = this.known(one.id);
          return dial(
            {
              ...one,
              name: circuit.name,
              direction: circuit.direction,
              neurons: circuit.neurons,
              off: switchedOff(one.id).length,
            },
            (value) => {
              one.value = value;
              this.save();
              this.turned();
            },
            () => {
              this.dials = this.dials.filter((other) => other !== one);
              this.drawPanel();
              this.save();
              this.turned();
            },
          );
        }),
        this.dials.length ? null : h("p", { class: "faint" }, "No circuit is on the steered side."),
        free.length
          ? h(
              "select",
              {
                "aria-label": "Add a circuit",
                onchange: (event) => {
                  this.dials.push({ id: event.target.value, value: 1 });
                  this.drawPanel();
                  this.save();
                  this.turned();
                },
              },
              h("option", { value: "" }, "Add a circuit …"),
              free.map((circuit) => h("option", { value: circuit.id }, `${circuit.name} (${circuit.neurons} neurons)`)),
            )
          : null,
      ),
      h("section", {}, h("h2", {}, "Damage so far", explain("kl_so_far")), this.damage),
      h("section", {}, h("h2", {}, "First token", explain("openers")), this.gauge, this.openerChoice()),
      h(
        "details",
        {
          class: "settings",
          open: recall("settings", false),
          ontoggle: (event) => keep("settings", event.target.open),
        },
        h("summary", {}, "Settings"),
        field(
          "System prompt",
          h("textarea", { rows: 2, value: o.system, maxlength: 20000, onchange: change("system") }),
        ),
        field(
          "Temperature",
          h("input", {
            type: "number",
            min: 0,
            max: 5,
            step: 0.1,
            value: o.temperature,
            onchange: change("temperature", numeric(0, 5)),
          }),
          "0 is greedy. Both sides draw with the same noise.",
        ),
        field(
          "Seed",
          h("input", {
            type: "number",
            min: 0,
            max: 2147483647,
            step: 1,
            value: o.seed,
            onchange: change("seed", (input) => Math.round(numeric(0, 2147483647)(input))),
          }),
        ),
        field(
          "Longest answer, in tokens",
          h("input", {
            type: "number",
            min: 1,
            max: 2048,
            step: 1,
            value: o.length,
            onchange: change("length", (input) => Math.round(numeric(1, 2048)(input))),
          }),
        ),
      ),
    );
    this.live();
  }

  openerChoice() {
    const sources = Object.keys(this.openers);
    const find = this.sets
      .filter((set) => !this.openers[set.id])
      .map((set) => [`find:${set.id}`, `find those of ${set.title || set.id}`]);
    const choice = select(
      [
        ["", sources.length ? "none" : "choose a behaviour …"],
        ...sources.map((source) => [source, `of ${source.replace("circuit:", "the circuit ")}`]),
        ...find,
      ],
      this.options.openers,
      (value) => {
        if (value.startsWith("find:")) this.findOpeners(value.slice(5), choice);
        else {
          this.options.openers = value;
          this.drawPanel();
          this.save();
          this.turned();
        }
      },
    );
    choice.setAttribute("aria-label", "Openers of which behaviour");
    return choice;
  }

  async findOpeners(set, choice) {
    choice.disabled = true;
    fill(
      this.gauge,
      h("p", { class: "faint" }, "The model answers the prompts of this set; its answers' first words are compared …"),
    );
    try {
      const job = await post("/api/openers", { prompts: set });
      follow(
        job.id,
        () => {},
        async (over) => {
          if (over.state !== "done") {
            fill(this.gauge, problem({ words: over.error || { problem: "Cancelled." } }));
            choice.disabled = false;
            return;
          }
          this.openers = await get("/api/openers");
          this.options.openers = set;
          this.drawPanel();
          this.save();
          this.turned();
        },
      );
    } catch (error) {
      fill(this.gauge, problem(error));
      choice.disabled = false;
    }
  }

  // The two live numbers of the last turn.
  live() {
    const turn = this.turns.at(-1);
    const kl = turn ? turn.sides.unsteered.kl : null;
    const other = turn ? turn.sides.steered.kl : null;
    fill(
      this.damage,
      h("p", { class: "big", id: "kl" }, kl === null ? "–" : number(kl)),
      h(
        "p",
        { class: "faint" },
        "nats per token of the unsteered answer",
        other === null ? "" : `; ${number(other)} of the steered one`,
      ),
    );
    const texts = this.openers[this.options.openers];
    if (!texts) {
      fill(
        this.gauge,
        h(
          "p",
          { class: "faint" },
          "Choose a behaviour to see how much of the first token goes to the way its answers begin.",
        ),
      );
      return;
    }
    const shares = turn && turn.openers ? turn.openers : [null, null];
    fill(
      this.gauge,
      ["unsteered", "steered"].map((side, place) =>
        h(
          "div",
          { class: `meter ${side}` },
          h("span", {}, side),
          h(
            "span",
            { class: "rail" },
            h("span", { class: "level", style: { width: `${100 * (shares[place] || 0)}%` } }),
          ),
          h("output", { id: `gauge-${side}` }, shares[place] === null ? "–" : percent(shares[place])),
        ),
      ),
      h(
        "p",
        { class: "faint clip", title: texts.join(" | ") },
        "to: ",
        texts.map((text, place) => [place ? " · " : "", h("code", {}, text.trim())]),
      ),
    );
  }

  // -------------------------------------------------------------- asking

  async send() {
    await this.ready; // before, neither the circuits nor the earlier turns are there
    const text = this.input.value.trim();
    if (!text) return;
    this.input.value = "";
    this.grow();
    this.ask(text);
  }

  addTurn(prompt) {
    if (!this.turns.length) fill(this.thread);
    const sides = { unsteered: new Answer("unsteered", "unsteered"), steered: new Answer("steered", "steered") };
    const turn = { prompt, sides, job: null, openers: null, stop: null };
    turn.trouble = h("div");
    turn.element = h(
      "article",
      { class: "turn" },
      h(
        "div",
        { class: "asked" },
        h("p", {}, prompt),
        h(
          "span",
          { class: "row tight" },
          iconButton("edit", "Edit this prompt", () => this.edit(turn)),
          iconButton("again", "Answer again", () => this.again(turn)),
        ),
      ),
      turn.trouble,
      h("div", { class: "sides" }, sides.unsteered.element, sides.steered.element),
    );
    this.turns.push(turn);
    this.thread.append(turn.element);
    turn.element.scrollIntoView({ block: "end" });
    return turn;
  }

  history(turn, side) {
    const before = this.turns.slice(0, this.turns.indexOf(turn));
    return [
      ...before.flatMap((one) => [
        { role: "user", content: one.prompt },
        { role: "assistant", content: one.sides[side].text || "" },
      ]),
      { role: "user", content: turn.prompt },
    ];
  }

  async ask(prompt) {
    const busy = this.turns.find((turn) => turn.running);
    if (busy) await this.halt(busy);
    await this.run(this.addTurn(prompt));
  }

  async run(turn) {
    const round = (turn.round = (turn.round || 0) + 1);
    if (turn.running) await this.halt(turn);
    if (round !== turn.round) return;
    fill(turn.trouble);
    for (const side of Object.values(turn.sides)) side.begin();
    turn.running = true;
    this.busy();
    try {
      const asked = this.request(turn);
      const job = await post("/api/answers", asked);
      if (round !== turn.round) {
        remove(`/api/jobs/${job.id}`);
        return;
      }
      this.attach(turn, job.id);
    } catch (error) {
      turn.running = false;
      for (const side of Object.values(turn.sides)) side.finish();
      fill(
        turn.trouble,
        problem(
          error,
          button("Try again", () => this.again(turn)),
        ),
      );
      this.busy();
    }
  }

  request(turn) {
    const o = this.options;
    return {
      unsteered: this.history(turn, "unsteered"),
      steered: this.history(turn, "steered"),
      circuits: this.dials.map((one) => ({ id: one.id, dial: one.value, off: switchedOff(one.id) })),
      system: o.system,
      temperature: o.temperature,
      seed: o.seed,
      max_new_tokens: o.length,
      openers: o.openers,
    };
  }

  attach(turn, job) {
    turn.job = job;
    turn.running = true;
    for (const side of Object.values(turn.sides)) side.begin();
    this.busy();
    const waiting = setTimeout(() => {
      if (turn.running && !turn.sides.steered.events.length)
        fill(
          turn.trouble,
          h(
            "p",
            { class: "loading", role: "status" },
            h("span", { class: "spinner" }),
            "The model is busy with another job; the answer comes when it ends. See Jobs, above.",
          ),
        );
    }, 4000);
    let ends = null;
    turn.stop = follow(
      job,
      (event) => {
        if (turn.job !== job) return;
        if (event.event === "answers") {
          ends = event;
          return;
        }
        fill(turn.trouble);
        turn.sides[event.side].add(event);
        if (event.openers) turn.openers = event.openers;
        this.live();
      },
      (over) => {
        clearTimeout(waiting);
        if (turn.job !== job) return;
        turn.running = false;
        for (const [name, side] of Object.entries(turn.sides)) side.finish(ends && ends[name]);
        fill(
          turn.trouble,
          over.state === "failed"
            ? problem(
                { words: over.error },
                button("Try again", () => this.again(turn)),
              )
            : null,
          over.state === "cancelled"
            ? h(
                "p",
                { class: "row faint" },
                "Stopped.",
                button("Answer again", () => this.again(turn), { class: "small" }),
              )
            : null,
        );
        this.live();
        this.busy();
        this.save();
      },
    );
    this.save();
  }

  async halt(turn) {
    if (turn.stop) turn.stop();
    turn.stop = null;
    turn.running = false;
    if (turn.job)
      try {
        await remove(`/api/jobs/${turn.job}`);
      } catch {
        /* it is over */
      }
  }

  async stop() {
    const turn = this.turns.find((one) => one.running);
    if (turn && turn.job)
      try {
        await remove(`/api/jobs/${turn.job}`);
      } catch (error) {
        toast(error.message);
      }
  }

  again(turn) {
    this.after(turn);
    this.run(turn);
  }

  edit(turn) {
    this.after(turn, true);
    this.input.value = turn.prompt;
    this.grow();
    this.input.focus();
  }

  after(turn, including = false) {
    // what came after a turn no longer follows from it
    const place = this.turns.indexOf(turn) + (including ? 0 : 1);
    for (const gone of this.turns.splice(place)) {
      this.halt(gone);
      gone.element.remove();
    }
    this.busy();
    this.empty();
    this.save();
  }

  reset() {
    for (const turn of this.turns.splice(0)) this.halt(turn);
    this.save();
    this.empty();
    this.live();
    this.busy();
    this.input.focus();
  }

  turned() {
    // a dial or a setting moved: the last prompt is answered again
    clearTimeout(this.timer);
    const turn = this.turns.at(-1);
    if (turn) this.timer = setTimeout(() => this.run(turn), 140);
  }

  busy() {
    const running = this.turns.some((turn) => turn.running);
    this.stopButton.hidden = !running;
    this.sendButton.disabled = false;
  }

  leave() {
    clearTimeout(this.timer);
    hideNote();
    for (const turn of this.turns) if (turn.stop) turn.stop();
  }
}
