// The conversation's name, and the ways in and out of it: keep it, open another, hand it on as a file.
import { button, field, select } from "../controls.js";
import { fill, h } from "../dom.js";
import { openButton } from "../files.js";
import { messageOf, toast } from "../messages.js";
import { address } from "../route.js";
import { conversationFile, listConversations, removeConversation, saveConversation } from "../server.js";
import { askedConversation } from "./asking.js";
/** @import { ConversationEntry } from "../../../types/views.d.ts" */
/** @import { ChatState } from "./state.js" */
/** @import { Turn } from "./turn.js" */

const LONGEST = 80; // letters of a name
const HELP =
  "A conversation with a name is kept in the studio's folder, and kept up to date. Its file holds its circuits.";

export class ConversationBar {
  /** @param {ChatState} state @param {() => Turn[]} turns */
  constructor(state, turns) {
    this.state = state;
    this.turns = turns;
    /** @type {ConversationEntry[]} */
    this.kept = [];
    /** What is written waits for what was written before. @type {Promise<unknown>} */
    this.writing = Promise.resolve();
    this.title = h("span", { class: "clip" });
    this.body = h("div", { class: "stack" });
    const open = (/** @type {Event & { currentTarget: HTMLDetailsElement }} */ event) => {
      if (event.currentTarget.open) {
        this.#list();
      }
    };
    this.element = h("details", { class: "talk", ontoggle: open }, h("summary", {}, this.title), this.body);
  }

  /** What the conversation is called. */
  get name() {
    return this.state.conversation?.name ?? "";
  }

  draw() {
    fill(this.title, this.name || "Conversation without a name, kept in this browser alone");
    const name = h("input", { type: "text", value: this.name, maxlength: LONGEST, placeholder: this.#proposed() });
    const rename = () => this.#keep(name.value.trim() || this.#proposed());
    const onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault();
      rename();
    };
    /** @type {[string, string][]} */
    const others = this.kept
      .filter(({ id }) => id !== this.state.conversation?.id)
      .map(({ id, name: called, turns }) => [id, `${called} (${turns} ${turns === 1 ? "prompt" : "prompts"})`]);
    const go = (/** @type {string} */ id) => {
      if (id) {
        location.hash = address("chat", [], { talk: id });
      }
    };
    fill(
      this.body,
      h(
        "form",
        { class: "row", onsubmit },
        field("Name", name),
        h("button", { type: "submit" }, this.state.conversation ? "Rename" : "Keep"),
        others.length ? field("Open a kept one", select([["", "choose …"], ...others], "", go)) : null,
      ),
      h(
        "div",
        { class: "row" },
        button("Save as a file", () => this.#download()),
        openButton(),
        this.state.conversation ? button("Delete the kept one", () => this.#remove(), { class: "danger" }) : null,
      ),
      h("p", { class: "faint" }, HELP),
    );
  }

  /** Something was said: what is kept follows. */
  changed() {
    if (this.state.conversation && this.turns().length) {
      this.#write(this.state.conversation.name).catch((error) => toast(messageOf(error)));
    }
  }

  async #list() {
    this.kept = await listConversations().catch(() => []);
    this.draw();
  }

  #proposed() {
    return (this.turns()[0]?.prompt ?? "Conversation").slice(0, 60);
  }

  /** @param {string} name @returns {Promise<string>} its id */
  #write(name) {
    const next = this.writing.then(async () => {
      const before = this.state.conversation;
      const called = { id: before?.id ?? "", name };
      const { id } = await saveConversation(askedConversation(this.state, this.turns(), called));
      if (this.state.conversation === before) {
        this.state.conversation = { id, name }; // and no new chat was begun meanwhile
      }
      return id;
    });
    this.writing = next.catch(() => {}); // whoever asked for it says so
    return next;
  }

  /** @param {string} name */
  async #keep(name) {
    try {
      await this.#write(name);
      this.state.save(this.turns());
      await this.#list();
      toast(`Kept as “${name}”`);
    } catch (error) {
      toast(messageOf(error));
    }
  }

  async #download() {
    try {
      const id = await this.#write(this.name || this.#proposed());
      this.state.save(this.turns());
      this.draw();
      h("a", { href: conversationFile(id), download: "" }).click();
    } catch (error) {
      toast(messageOf(error));
    }
  }

  async #remove() {
    const { conversation } = this.state;
    if (!conversation) {
      return;
    }
    try {
      await removeConversation(conversation.id);
      this.state.conversation = null;
      this.state.save(this.turns());
      await this.#list();
      toast(`“${conversation.name}” is no longer kept; it still stands here`);
    } catch (error) {
      toast(messageOf(error));
    }
  }
}
