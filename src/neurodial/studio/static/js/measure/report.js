// A finished report, and two of them side by side.
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { loading, problem } from "../messages.js";
import { number, percent } from "../numbers.js";
import { address } from "../route.js";
import { getReport, reportPage } from "../server.js";
import { row, table } from "../table.js";
import { sharedNumbers, summary } from "./numbers-table.js";
/** @import { Figure, ReportView } from "../../../types/views.d.ts" */

const back = () => h("p", {}, h("a", { href: "#/measure" }, "← All measurements"));

/** @param {HTMLElement} main @param {string} id @param {string} part */
export async function showReport(main, id, part) {
  fill(main, loading());
  try {
    fill(main, drawReport(await getReport(id, part), reportPage(id, part)));
  } catch (error) {
    fill(main, problem(error, h("a", { class: "button", href: "#/measure" }, "All measurements")));
  }
}

/** @param {ReportView} report @param {string} page the address of the full report */
function drawReport(report, page) {
  const { id, behaviour, model, created, figures } = report;
  const title = h(
    "div",
    {},
    h("h1", {}, `Steering ${behaviour}`),
    h("p", { class: "faint" }, `${id} · ${model} · ${created}`),
  );
  const open = { class: "button", href: page, target: "_blank", rel: "noopener" };
  return h(
    "div",
    { class: "page wide" },
    back(),
    h("div", { class: "row spread" }, title, h("a", open, "Open the full report in a tab")),
    h("section", { class: "card" }, h("h2", {}, "The numbers"), summary(report)),
    figures ? drawFigures(figures) : null,
    h("iframe", { class: "report", src: page, sandbox: "", title: "The full report" }),
  );
}

/** @param {Figure[]} figures */
function drawFigures(figures) {
  const rows = figures.map(({ label, area, left }) => row(label, [number(area), percent(left)]));
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Frontier", explain("area")),
    table(["method", "area to 0.1 nats", "left at 0.1 nats"], rows),
  );
}

/**
 * @param {HTMLElement} main
 * @param {string} first a report and its part as the address has them: id|part
 * @param {string} second the same
 */
export async function showComparison(main, first, second) {
  fill(main, loading());
  try {
    const [one, other] = await Promise.all([first, second].map(readPart));
    fill(
      main,
      h(
        "div",
        { class: "page wide" },
        back(),
        h("h1", {}, "Two runs side by side"),
        [one, other].map(drawRun),
        h("section", { class: "card" }, h("h2", {}, "Same method, same dial"), sharedNumbers(one, other)),
      ),
    );
  } catch (error) {
    fill(main, problem(error));
  }
}

/** @param {string} path */
function readPart(path) {
  const [id, part] = path.split("|");
  return getReport(id, part);
}

/** @param {ReportView} report */
function drawRun(report) {
  const { id, part, model, created } = report;
  const link = h("a", { href: address("measure", ["report", id, part]) }, id);
  return h(
    "section",
    { class: "card" },
    h("h2", {}, link, part === "report" ? "" : `, ${part}`),
    h("p", { class: "faint" }, `${model} · ${created}`),
    summary(report),
  );
}
