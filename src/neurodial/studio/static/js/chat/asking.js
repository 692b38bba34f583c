// What the chat asks the server, and what a job of it was asked.
import { switchedOff } from "../keep.js";
/** @import { AnswerRequest, ChatTurn } from "../../../types/requests.d.ts" */
/** @import { Job } from "../../../types/views.d.ts" */
/** @import { ChatState } from "./state.js" */
/** @import { Turn } from "./turn.js" */

/** @param {ChatState} state @param {Turn[]} turns @param {Turn} turn the one that is asked @returns {AnswerRequest} */
export function askedAnswer({ options, dials }, turns, turn) {
  const before = turns.slice(0, turns.indexOf(turn));
  return {
    unsteered: history(before, "unsteered", turn.prompt),
    steered: history(before, "steered", turn.prompt),
    circuits: dials.map(({ id, value }) => ({ id, dial: value, off: switchedOff(id) })),
    system: options.system,
    temperature: options.temperature,
    seed: options.seed,
    max_new_tokens: options.length,
    openers: options.openers,
  };
}

/**
 * What was said before, and the prompt: each side remembers its own answers.
 * @param {Turn[]} before @param {"unsteered" | "steered"} side @param {string} asked @returns {ChatTurn[]}
 */
function history(before, side, asked) {
  /** @type {ChatTurn[]} */
  const said = before.flatMap(({ prompt, sides }) => [
    { role: "user", content: prompt },
    { role: "assistant", content: sides[side].text },
  ]);
  return [...said, { role: "user", content: asked }];
}

/**
 * The prompt that a job answers; none where it is no answer.
 * @param {Job} job
 */
export function promptOf(job) {
  const { steered } = /** @type {Partial<AnswerRequest>} */ (job.asked);
  return job.kind === "answer" ? (steered?.at(-1)?.content ?? null) : null;
}
