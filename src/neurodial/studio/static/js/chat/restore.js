// Turns of an earlier visit, or of a conversation that was opened: from the server's jobs, else as they were kept.
import { getJob } from "../server.js";
import { promptOf } from "./asking.js";
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

/** A job; none where the server has forgotten it. @param {number | null | undefined} number */
const knownJob = (number) => (number ? getJob(number).catch(() => null) : null);
