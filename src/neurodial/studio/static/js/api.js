// Talking to the server. Errors arrive as words: what came, what was wanted, what to do.

export class Refused extends Error {
  constructor(words, status) {
    super(words.problem);
    this.words = words;
    this.status = status;
  }
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(
      {
        problem: "The studio does not answer.",
        fix: "Is the command in the terminal still running? Start it again and reload.",
      },
      0,
    );
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    /* said below */
  }
  if (!response.ok)
    throw new Refused((value && value.error) || { problem: `The server said ${response.status}.` }, response.status);
  return value;
}

export const get = (path) => ask(path);
export const post = (path, value) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(value) });
export const remove = (path) => ask(path, { method: "DELETE" });

// Every event of a job from its beginning; then how it ended. Gives a function that stops listening.
export function follow(job, onevent, onover) {
  const source = new EventSource(`/api/jobs/${job}/events`);
  source.onmessage = (message) => onevent(JSON.parse(message.data));
  source.addEventListener("over", (message) => {
    source.close();
    onover(JSON.parse(message.data));
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED)
      onover({
        state: "failed",
        error: { problem: "The connection to the studio was lost.", fix: "Reload the page." },
      });
  };
  return () => source.close();
}
