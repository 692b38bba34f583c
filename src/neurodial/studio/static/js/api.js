// Talking to the server. Errors arrive as words: what came, what was wanted, what to do.
/** @import { Job, Refusal, Words } from "../../types/views.d.ts" */

export class Refused extends Error {
  /** @param {Words} words @param {number} status */
  constructor(words, status) {
    super(words.problem);
    this.words = words;
    this.status = status;
  }
}

const SILENT = {
  problem: "The studio does not answer.",
  fix: "Is the command in the terminal still running? Start it again and reload.",
};
const LOST = { problem: "The connection to the studio was lost.", fix: "Reload the page." };

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<any>} what server.js says of the path
 */
async function ask(path, options) {
  const response = await fetch(path, options).catch(() => {
    throw new Refused(SILENT, 0);
  });
  const value = parsed(await response.text());
  if (!response.ok) {
    const refusal = /** @type {Refusal | null} */ (value);
    throw new Refused(refusal?.error || { problem: `The server said ${response.status}.` }, response.status);
  }
  return value;
}

/** @param {string} text */
function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null; // where it matters, the status says it
  }
}

/** @param {string} path */
export const get = (path) => ask(path);

/** @param {string} path @param {object} value */
export const post = (path, value) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });

/** @param {string} path */
export const remove = (path) => ask(path, { method: "DELETE" });

/**
 * Every event of a job from its beginning; then how it ended. Gives a function that stops listening.
 * @template Event
 * @param {number} job
 * @param {(event: Event) => void} onevent
 * @param {(over: Pick<Job, "state" | "error">) => void} onover
 */
export function follow(job, onevent, onover) {
  const source = new EventSource(`/api/jobs/${job}/events`);
  source.onmessage = (message) => onevent(JSON.parse(message.data));
  source.addEventListener("over", (message) => {
    source.close();
    onover(JSON.parse(message.data));
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) {
      onover({ state: "failed", error: LOST });
    }
  };
  return () => source.close();
}
