// A finished report, and two of them side by side.
import { field, form } from "../controls.js";
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { downloadLink } from "../files.js";
import { loading, messageOf, problem, toast } from "../messages.js";
import { number, percent } from "../numbers.js";
import { address } from "../route.js";
import { comparisonPage, getComparison, getReport, listReports, renameReport, reportPage, runFile } from "../server.js";
import { row, scroll, table } from "../table.js";
import { comparedNumbers, summary } from "./numbers-table.js";
/** @import { Comparison, Figure, ReportView } from "../../../types/views.d.ts" */

const back = () => h("p", {}, h("a", { href: "#/measure" }, "← All measurements"));

/** @param {HTMLElement} main @param {string} id @param {string | undefined} part none: the first that there is */
export async function showReport(main, id, part) {
  fill(main, loading());
  try {
    const shown = part ?? (await listReports()).find((report) => report.id === id)?.parts[0] ?? "report";
    fill(main, drawReport(await getReport(id, shown), reportPage(id, shown)));
  } catch (error) {
    fill(main, problem(error, h("a", { class: "button", href: "#/measure" }, "All measurements")));
  }
}

/** @param {ReportView} report @param {string} page the address of the full report */
function drawReport(report, page) {
  const { id, name, behaviour, model, created, figures } = report;
  const title = h(
    "div",
    {},
    h("h1", {}, `Steering ${behaviour}`),
    h("p", { class: "faint" }, `${name} · ${model} · ${created}`),
  );
  const open = { class: "button", href: page, target: "_blank", rel: "noopener" };
  return h(
    "div",
    { class: "page wide" },
    back(),
    h("div", { class: "row spread" }, title, h("a", open, "Open the full report in a tab")),
    h("div", { class: "row bottom" }, naming(id, name), downloadLink(runFile(id), "Save the run as a file")),
    h("section", { class: "card" }, h("h2", {}, "The numbers"), summary(report)),
    figures ? drawFigures(figures) : null,
    h("iframe", { class: "report", src: page, sandbox: "", title: "The full report" }),
  );
}

/** @param {string} id @param {string} name */
function naming(id, name) {
  const input = h("input", { type: "text", value: name, maxlength: 80, required: true });
  const rename = async () => {
    try {
      await renameReport(id, { name: input.value.trim() || name });
      toast(`Called “${input.value.trim() || name}”`);
    } catch (error) {
      toast(messageOf(error));
    }
  };
  return form("row bottom", rename, field("Name of the run", input), h("button", { type: "submit" }, "Rename"));
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
    const parts = [first, second].flatMap((path) => path.split("|"));
    fill(main, drawComparison(await getComparison(parts), parts));
  } catch (error) {
    fill(main, problem(error, h("a", { class: "button", href: "#/measure" }, "All measurements")));
  }
}

/** @param {Comparison} comparison @param {string[]} parts both reports, each with its part */
function drawComparison(comparison, parts) {
  const { names, summary: said, verdicts, alone, changes } = comparison;
  const open = { class: "button", href: comparisonPage(parts), target: "_blank", rel: "noopener" };
  const links = names.map((name, place) =>
    h(
      "p",
      {},
      h("a", { href: address("measure", ["report", ...parts.slice(2 * place, 2 * place + 2)]) }, name),
      `: ${verdicts[place]}`,
      alone[name]?.length ? ` Only here: ${alone[name].join(", ")}.` : "",
    ),
  );
  const settings = changes.map(([place, before, after]) => row(place, [before, after]));
  return h(
    "div",
    { class: "page wide" },
    back(),
    h(
      "div",
      { class: "row spread" },
      h("h1", {}, "Two runs side by side"),
      h("a", open, "Open the comparison in a tab"),
    ),
    h("section", { class: "card" }, h("p", {}, h("strong", {}, said)), links),
    h("section", { class: "card" }, h("h2", {}, "Same method, same dial"), comparedNumbers(comparison)),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "What differs in how they were made"),
      changes.length
        ? scroll("Settings that differ", table(["setting", ...names], settings, "plain wrap"))
        : h("p", { class: "faint" }, "Every setting and version is the same."),
    ),
  );
}
