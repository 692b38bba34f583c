// Answers beside the running one: turns of an earlier visit or of a conversation that was opened, from the server's
// jobs or else as they were kept; and those at several dials.
import { fill } from "../dom.js";
import { problem } from "../messages.js";
import { getJob, startStrip } from "../server.js";
import { askedStrip, promptOf } from "./asking.js";
/** @import { SavedStrip, SavedTurn } from "../../../types/page.d.ts" */
/** @import { Chat } from "./chat.js" */
/** @import { Turn } from "./turn.js" */

/** @param {Chat} chat @param {SavedTurn[]} turns */
export async function restoreTurns(chat, turns) {
  for (const saved of turns) {
    const turn = await restoreTurn(chat, saved);
    if (turn && saved.strip) {
      await restoreStrip(turn, saved.strip);
    }
  }
}

/** @param {Chat} chat @param {SavedTurn} saved */
async function restoreTurn(chat, { job: number, prompt, unsteered = "", steered = "" }) {
  const job = await knownJob(number);
  const asked = job ? promptOf(job) : null;
  if (job && asked !== null && (!prompt || prompt === asked)) {
    const turn = chat.addTurn(asked);
    chat.attach(turn, job.id);
    return turn;
  }
  if (!prompt) {
    return null;
  }
  const turn = chat.addTurn(prompt);
  turn.sides.unsteered.plain(unsteered);
  turn.sides.steered.plain(steered);
  return turn;
}

/** @param {Turn} turn @param {SavedStrip} saved */
async function restoreStrip(turn, saved) {
  const strip = turn.openStrip(saved);
  const job = await knownJob(saved.job);
  if (job?.kind === "strip" && job.state !== "failed") {
    strip.attach(job.id);
  }
}

/** Answers at several dials, below both. @param {Chat} chat @param {Turn} turn */
export async function askStrip(chat, turn) {
  let strip = null;
  try {
    const asked = askedStrip(chat.state, chat.turns, turn);
    strip = turn.openStrip({ moved: asked.moved, dials: asked.dials, texts: [] });
    strip.element.scrollIntoView({ block: "nearest" });
    const job = await startStrip(asked);
    strip.attach(job.id);
    chat.save();
  } catch (error) {
    fill(strip ? strip.trouble : turn.trouble, problem(error));
  }
}

/** A job; none where the server has forgotten it. @param {number | null | undefined} number */
const knownJob = (number) => (number ? getJob(number).catch(() => null) : null);
