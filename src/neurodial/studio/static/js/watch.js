// Watching a long job: its progress as often as it moves, how it ended once.
import { get, remove } from "./api.js";
import { button, h } from "./dom.js";

export function watchJob(number, { onprogress, ondone, onfail, oncancel }) {
  let over = false;
  async function look() {
    if (over) return;
    try {
      const job = await get(`/api/jobs/${number}`);
      if (over) return;
      if (job.state === "done") {
        over = true;
        ondone(job);
        return;
      }
      if (job.state === "failed") {
        over = true;
        onfail(job.error);
        return;
      }
      if (job.state === "cancelled") {
        over = true;
        oncancel();
        return;
      }
      onprogress(job);
    } catch (error) {
      if (over) return;
      if (error.status === 404) {
        over = true;
        onfail({ ...error.words, forgotten: true });
        return;
      }
    }
    setTimeout(look, 400);
  }
  look();
  return () => {
    over = true;
  };
}

export function progressOf(title, job) {
  const { description, done, total } = job.progress;
  return h(
    "section",
    { class: "card working", role: "status" },
    h(
      "div",
      { class: "row spread" },
      h("h2", {}, job.state === "queued" ? `${title}: waiting for the job before it` : title),
      button("Cancel", () => remove(`/api/jobs/${job.id}`), { class: "danger small" }),
    ),
    h("progress", { value: total ? done : undefined, max: total || 1, "aria-label": description || title }),
    h("p", { class: "faint" }, description ? `${description}: ${done} of ${total}` : "starting …"),
  );
}
