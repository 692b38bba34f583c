// What the chat asks the server, and what a job of it was asked.
import { switchedOff } from "../keep.js";
import { numbersIn } from "../numbers.js";
/** @import { AnswerRequest, ChatTurn, ConversationRequest, StripRequest } from "../../../types/requests.d.ts" */
/** @import { Called, ChatOptions, Dialled } from "../../../types/page.d.ts" */
/** @import { Job } from "../../../types/views.d.ts" */
/** @import { ChatState } from "./state.js" */
/** @import { Turn } from "./turn.js" */

const STRIP = 8; // dials at most

/** @param {ChatState} state @param {Turn[]} turns @param {Turn} turn the one that is asked @returns {AnswerRequest} */
export function askedAnswer({ options, dials }, turns, turn) {
  const before = turns.slice(0, turns.indexOf(turn));
  return {
    unsteered: history(before, "unsteered", turn.prompt),
    steered: history(before, "steered", turn.prompt),
    circuits: turned(dials),
    ...drawn(options),
    openers: options.openers,
  };
}

/** @param {Dialled[]} dials */
const turned = (dials) => dials.map(({ id, value }) => ({ id, dial: value, off: switchedOff(id) }));

/** @param {ChatOptions} options */
const drawn = ({ system, temperature, seed, length }) => ({ system, temperature, seed, max_new_tokens: length });

/**
 * Several dials of one circuit; each goes on from what the steered side said before.
 * @param {ChatState} state @param {Turn[]} turns @param {Turn} turn the one that is asked @returns {StripRequest}
 */
export function askedStrip({ options, dials, moved }, turns, turn) {
  const values = numbersIn(options.strip);
  if (!values || !values.length || values.length > STRIP) {
    throw new Error(`“Several dials” holds “${options.strip}”; wanted are 1 to ${STRIP} numbers between commas.`);
  }
  if (!moved) {
    throw new Error("No circuit is on the steered side; add one to turn its dial.");
  }
  const before = turns.slice(0, turns.indexOf(turn));
  const chat = history(before, "steered", turn.prompt);
  return { chat, circuits: turned(dials), moved, dials: values, ...drawn(options) };
}

/**
 * The conversation as it is kept and shared.
 * @param {ChatState} state @param {Turn[]} turns @param {Called} called @returns {ConversationRequest}
 */
export function askedConversation({ options, dials }, turns, { id, name }) {
  const { system, temperature, seed, length, openers } = options;
  return {
    id,
    name,
    settings: { system, temperature, seed, length, openers },
    circuits: turned(dials),
    turns: turns.map(({ prompt, sides, strip }) => ({
      prompt,
      unsteered: sides.unsteered.text,
      steered: sides.steered.text,
      strip: strip ? { moved: strip.moved, dials: strip.dials, texts: strip.kept.texts } : null,
    })),
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
