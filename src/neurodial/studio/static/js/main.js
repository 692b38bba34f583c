import { get, remove } from "./api.js";
import { blank, fill, h, iconButton, loading, problem, svg, glyphs } from "./dom.js";
import { recall, keep } from "./keep.js";
import { route, address } from "./route.js";

const views = {
  chat: ["Chat", () => import("./chat.js")],
  discover: ["Discover", () => import("./discover.js")],
  look: ["Look", () => import("./look.js")],
  measure: ["Measure", () => import("./measure.js")],
  export: ["Export", () => import("./export.js")],
};
const main = document.getElementById("main");
const tabs = document.querySelector(".tabs");
let leave = null;
let shown = 0;
export let model = null;

for (const [name, [title]] of Object.entries(views)) {
  tabs.append(h("a", { href: address(name), "data-view": name }, title));
}

async function show() {
  const { view, rest, query } = route();
  const turn = ++shown;
  for (const link of tabs.children) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (leave) leave();
  leave = null;
  main.className = `view-${view}`;
  if (!views[view]) {
    fill(
      main,
      blank(
        "There is no such page",
        `Nothing is at “${view}”.`,
        h("a", { class: "button", href: "#/chat" }, "To the chat"),
      ),
    );
    return;
  }
  document.title = `${views[view][0]} · neurodial studio`;
  try {
    if (!model) {
      fill(main, loading());
      model = await get("/api/model");
      document.getElementById("model").textContent = model.label;
      document.getElementById("model").title =
        `${model.family}, ${model.widths.length} layers, ${model.neurons.toLocaleString("en")} neurons, ${model.dtype}`;
    }
    const module = await views[view][1]();
    if (turn === shown) leave = module.show(main, { rest, query, model }) || null;
  } catch (error) {
    if (turn === shown) fill(main, problem(error, h("button", { onclick: () => show() }, "Try again")));
  }
}
addEventListener("hashchange", show);

// ---------------------------------------------------------------- light and dark

const themeButton = document.getElementById("theme");
function theme(wanted) {
  document.documentElement.dataset.theme = wanted;
  fill(themeButton, svg(glyphs[wanted === "dark" ? "sun" : "moon"]));
  themeButton.setAttribute("aria-label", wanted === "dark" ? "Switch to light" : "Switch to dark");
  dispatchEvent(new Event("themechange"));
}
const preferred = matchMedia("(prefers-color-scheme: dark)");
theme(recall("theme", null) || (preferred.matches ? "dark" : "light"));
preferred.addEventListener("change", () => {
  if (!recall("theme", null)) theme(preferred.matches ? "dark" : "light");
});
themeButton.addEventListener("click", () => {
  const wanted = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  keep("theme", wanted);
  theme(wanted);
});

// ---------------------------------------------------------------- jobs, the same in every tab

const panel = document.getElementById("jobs-panel");
const jobsButton = document.getElementById("jobs-button");
const places = { discover: "discover", evaluate: "measure", frontier: "measure", export: "export" };
let jobs = [];

async function poll() {
  try {
    jobs = await get("/api/jobs");
    showJobs();
  } catch {
    document.getElementById("jobs-text").textContent = "no answer";
    jobsButton.dataset.state = "failed";
  }
  const busy = jobs.some((job) => job.state === "running" || job.state === "queued");
  setTimeout(poll, document.hidden ? 5000 : busy ? 700 : 2500);
}

export const share = (job) => (job.progress.total ? job.progress.done / job.progress.total : 0);

function showJobs() {
  const running = jobs.find((job) => job.state === "running");
  const waiting = jobs.filter((job) => job.state === "queued").length;
  const percent = running && running.progress.total ? ` ${Math.round(100 * share(running))} %` : "";
  const names = {
    answer: "answering",
    discover: "discovering",
    openers: "finding openers",
    evaluate: "evaluating",
    frontier: "frontier",
    export: "exporting",
    neuron: "reading a neuron",
  };
  document.getElementById("jobs-text").textContent = running
    ? `${names[running.kind] || running.kind}${percent}${waiting ? `, ${waiting} waiting` : ""}`
    : "idle";
  jobsButton.dataset.state = running ? "running" : "idle";
  if (!panel.hidden) drawJobs();
}

function drawJobs() {
  const listed = [...jobs]
    .reverse()
    .filter((job) => job.kind !== "neuron")
    .slice(0, 30);
  fill(
    panel,
    h("header", { class: "row" }, h("h2", {}, "Jobs"), iconButton("close", "Close the jobs", toggleJobs)),
    listed.length
      ? h(
          "ul",
          { class: "jobs" },
          listed.map((job) =>
            h(
              "li",
              { "data-state": job.state },
              h(
                "div",
                { class: "row spread" },
                h("strong", {}, job.kind),
                h("span", { class: `state ${job.state}` }, job.state),
              ),
              h(
                "div",
                { class: "clip" },
                places[job.kind]
                  ? h("a", { href: address(places[job.kind], [], { job: job.id }) }, job.title)
                  : job.title,
              ),
              job.state === "running" && job.progress.total
                ? h(
                    "div",
                    { class: "row" },
                    h("progress", {
                      value: job.progress.done,
                      max: job.progress.total,
                      "aria-label": job.progress.description,
                    }),
                    h("small", {}, `${job.progress.description} ${job.progress.done} of ${job.progress.total}`),
                  )
                : null,
              job.state === "failed" ? h("small", {}, job.error.problem) : null,
              ["running", "queued"].includes(job.state)
                ? h(
                    "button",
                    { type: "button", class: "small", onclick: () => remove(`/api/jobs/${job.id}`) },
                    "Cancel",
                  )
                : null,
            ),
          ),
        )
      : h("p", { class: "faint" }, "Nothing has run yet."),
  );
}

function toggleJobs() {
  panel.hidden = !panel.hidden;
  jobsButton.setAttribute("aria-expanded", String(!panel.hidden));
  if (!panel.hidden) {
    drawJobs();
    panel.querySelector("button").focus();
  } else jobsButton.focus();
}
jobsButton.addEventListener("click", toggleJobs);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !panel.hidden) toggleJobs();
  if (event.altKey && /^[1-5]$/.test(event.key)) {
    location.hash = address(Object.keys(views)[event.key - 1]);
    event.preventDefault();
  }
});

show();
poll();
