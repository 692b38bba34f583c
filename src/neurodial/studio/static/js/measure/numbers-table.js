// Conditions by metrics, each number with its interval, each heading with its definition.
import { button } from "../controls.js";
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { number, percent } from "../numbers.js";
import { row, scroll, table } from "../table.js";
/** @import { Comparison, Estimate, Metric, ReportView } from "../../../types/views.d.ts" */

// The numbers that are shown first, after the behaviour's own rate.
const ORDER = [
  "opener",
  "kl",
  "margin",
  "opposite",
  "over_refusal",
  "degenerate",
  "accuracy",
  "perplexity",
  "repetition",
];

/** @param {Metric} metric @param {number | null | undefined} value */
function shown(metric, value) {
  if (value === null || value === undefined) {
    return "–";
  }
  return metric.is_share ? percent(value) : number(value);
}

/** Names of the metrics, the most telling first. @param {ReportView} report */
function columns({ metrics, headline }) {
  const first = [headline, ...ORDER];
  const place = (/** @type {string} */ name) => (first.includes(name) ? first.indexOf(name) : first.length);
  return Object.keys(metrics).sort((one, other) => place(one) - place(other));
}

/** The main numbers, and a way to all of them. @param {ReportView} report */
export function summary(report) {
  const box = h("div");
  const all = columns(report);
  const main = all.filter((name) => name === report.headline || ORDER.includes(name));
  const drawMain = () => {
    const more = button(`All ${all.length} numbers`, drawAll, { class: "link" });
    fill(box, numbersTable(report, main), main.length === all.length ? null : more);
  };
  const drawAll = () => {
    fill(box, numbersTable(report, all), button("Fewer numbers", drawMain, { class: "link" }));
  };
  drawMain();
  return box;
}

/** @param {ReportView} report @param {string[]} names */
function numbersTable({ metrics, conditions }, names) {
  const headings = names.map((name) => {
    const { title, explanation } = metrics[name];
    return [title, explain(name, [title, explanation])];
  });
  const rows = conditions.map((condition) =>
    row(condition.label, [
      number(condition.dial),
      ...names.map((name) => drawEstimate(metrics[name], condition.metrics[name])),
    ]),
  );
  return scroll("Numbers of the report", table(["method", "dial", ...headings], rows, "plain numbers-table"));
}

/** @param {Metric} metric @param {Estimate | undefined} estimate */
function drawEstimate(metric, estimate) {
  if (!estimate) {
    return "–";
  }
  const { value, low, high, n } = estimate;
  const interval = ` ${shown(metric, low)} to ${shown(metric, high)}, n ${n}`;
  return [shown(metric, value), low === null || low === undefined ? null : h("small", {}, interval)];
}

/**
 * What two runs share: each number of both, and the second less the first.
 * @param {Comparison} comparison
 */
export function comparedNumbers({ names, metrics, numbers, same_prompts }) {
  const rows = numbers.map(({ label, dial, metric, first, second, difference, clear }) =>
    row(label, [
      number(dial),
      [metrics[metric].title, explain(metric, [metrics[metric].title, metrics[metric].explanation])],
      drawEstimate(metrics[metric], first ?? undefined),
      drawEstimate(metrics[metric], second ?? undefined),
      ...(same_prompts
        ? [[drawEstimate(metrics[metric], difference ?? undefined), clear ? h("strong", {}, " beyond chance") : null]]
        : []),
    ]),
  );
  const less = same_prompts ? [`${names[1]} less ${names[0]}`] : [];
  const headings = ["method", "dial", "number", ...names, ...less];
  return scroll("Differences of the runs", table(headings, rows, "plain numbers-table"));
}
