// Chat with a dial: both sides at once, token by token.
import { fill, h } from "../dom.js";
import { messageOf, problem, toast } from "../messages.js";
import { cancelJob, startAnswer } from "../server.js";
import { askedAnswer } from "./asking.js";
import { Composer } from "./composer.js";
import { ConversationBar } from "./conversation-bar.js";
import { Panel } from "./panel.js";
import { askStrip, restoreTurns } from "./more-answers.js";
import { ChatState } from "./state.js";
import { hideNote } from "./token-note.js";
import { Turn } from "./turn.js";
import { noCircuit, welcome } from "./welcome.js";
/** @import { Show } from "../../../types/page.d.ts" */

const PAUSE = 140; // milliseconds between a dial that moved and the answer

/** @type {Show} */
export function show(main, { query }) {
  const chat = new Chat(main, query);
  return () => chat.leave();
}

export class Chat {
  /** @param {HTMLElement} main @param {URLSearchParams} query */
  constructor(main, query) {
    this.state = new ChatState(query);
    /** @type {Turn[]} */
    this.turns = [];
    this.timer = 0;
    this.isRestored = false;
    this.thread = h("div", { class: "thread" });
    this.composer = new Composer({
      onsend: () => this.send(),
      onstop: () => this.stop(),
      onreset: () => this.reset(),
    });
    this.panel = new Panel(
      this.state,
      () => this.turned(),
      () => this.save(),
      () => this.turns.at(-1),
    );
    this.bar = new ConversationBar(this.state, () => this.turns);
    const heading = h("h1", { class: "unseen" }, "Chat with a dial");
    const said = h("div", { class: "conversation" }, heading, this.bar.element, this.thread, this.composer.element);
    fill(main, this.panel.element, said);
    this.ready = this.load();
  }

  async load() {
    try {
      await this.state.load();
    } catch (error) {
      fill(this.thread, problem(error));
      return;
    }
    this.panel.draw();
    this.bar.draw();
    await this.restore();
    this.composer.input.focus({ preventScroll: true });
  }

  async restore() {
    const { query } = this.state;
    await restoreTurns(this, this.state.savedTurns());
    this.isRestored = true;
    if (this.turns.length) {
      this.save();
    }
    const asked = query.get("q");
    if (asked && !this.turns.length) {
      if (query.get("draft")) {
        this.composer.input.value = asked;
      } else {
        await this.ask(asked);
      }
    }
    this.empty();
  }

  save() {
    if (!this.isRestored) {
      return; // half of the turns would take the place of all of them
    }
    this.state.save(this.turns);
    this.bar.changed();
  }

  empty() {
    if (this.turns.length) {
      return;
    }
    const { circuits } = this.state;
    fill(this.thread, circuits.length ? welcome(circuits, (example) => this.ask(example)) : noCircuit());
  }

  // -------------------------------------------------------------- asking

  async send() {
    await this.ready; // before, neither the circuits nor the earlier turns are there
    const { text } = this.composer;
    if (text) {
      this.composer.write("");
      this.ask(text);
    }
  }

  /** @param {string} prompt */
  addTurn(prompt) {
    if (!this.turns.length) {
      fill(this.thread);
    }
    const turn = new Turn(prompt, {
      again: (again) => this.again(again),
      edit: (edited) => this.edit(edited),
      strip: (asked) => askStrip(this, asked),
      onrunning: () => this.busy(),
      ontoken: () => this.panel.live(),
      onover: () => {
        this.panel.live();
        this.busy();
        this.save();
      },
    });
    this.turns.push(turn);
    this.thread.append(turn.element);
    turn.element.scrollIntoView({ block: "end" });
    return turn;
  }

  /** @param {string} prompt */
  async ask(prompt) {
    await this.turns.find((turn) => turn.isRunning)?.halt();
    await this.run(this.addTurn(prompt));
  }

  /** @param {Turn} turn */
  async run(turn) {
    turn.round += 1;
    const { round } = turn;
    if (turn.isRunning) {
      await turn.halt();
    }
    if (round !== turn.round) {
      return;
    }
    fill(turn.trouble);
    turn.begin();
    try {
      const job = await startAnswer(askedAnswer(this.state, this.turns, turn));
      if (round === turn.round) {
        this.attach(turn, job.id);
      } else {
        cancelJob(job.id);
      }
    } catch (error) {
      turn.fail(error);
    }
  }

  /** @param {Turn} turn @param {number} job */
  attach(turn, job) {
    turn.attach(job);
    this.save();
  }

  // -------------------------------------------------------------- asking again

  async stop() {
    const job = this.turns.find((turn) => turn.isRunning)?.job;
    if (job) {
      await cancelJob(job).catch((error) => toast(messageOf(error)));
    }
  }

  /** @param {Turn} turn */
  again(turn) {
    this.dropFrom(this.turns.indexOf(turn) + 1);
    this.run(turn);
  }

  /** @param {Turn} turn */
  edit(turn) {
    this.dropFrom(this.turns.indexOf(turn));
    this.composer.write(turn.prompt);
    this.composer.input.focus();
  }

  /** @param {number} place the first turn that goes: it no longer follows from what is before it */
  dropFrom(place) {
    for (const gone of this.turns.splice(place)) {
      gone.halt();
      gone.element.remove();
    }
    this.busy();
    this.empty();
    this.save();
  }

  reset() {
    for (const turn of this.turns.splice(0)) {
      turn.halt();
    }
    this.state.conversation = null;
    this.bar.draw();
    this.save();
    this.empty();
    this.panel.live();
    this.busy();
    this.composer.input.focus();
  }

  /** A dial or a setting moved: the last prompt is answered again. */
  turned() {
    this.save();
    clearTimeout(this.timer);
    const turn = this.turns.at(-1);
    if (turn) {
      this.timer = setTimeout(() => this.run(turn), PAUSE);
    }
  }

  busy() {
    this.composer.show(this.turns.some((turn) => turn.isRunning));
  }

  leave() {
    clearTimeout(this.timer);
    hideNote();
    for (const turn of this.turns) {
      turn.unfollow?.();
      turn.strip?.unfollow?.();
    }
  }
}
