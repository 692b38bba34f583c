// An export: its proof, how engines load it, its files.
import { button } from "../controls.js";
import { h } from "../dom.js";
import { explain } from "../explain.js";
import { toast } from "../messages.js";
import { bytes, number, percent } from "../numbers.js";
import { exportFile } from "../server.js";
import { row, scroll, table } from "../table.js";
/** @import { ExportView } from "../../../types/views.d.ts" */

/** @param {ExportView} exported */
export function drawExport(exported) {
  return h("div", { class: "stack" }, proof(exported), engines(exported), files(exported));
}

/** @param {ExportView} exported */
function proof({ proof: { comparisons, precision }, one_dial, strength }) {
  const agrees = comparisons.every((comparison) => comparison.agrees);
  const verdict = agrees
    ? "✓ The files do what the dial does, and differ from the unsteered model."
    : "✗ The files do not do what the dial does.";
  const headings = [
    "loaded by",
    "strength",
    ["files against hook", explain("difference")],
    "allowed",
    "hook against unsteered",
    "same top token",
  ];
  const rows = comparisons.map(({ engine, strength: turned, difference, tolerance, effect, same_top }) =>
    row(engine, [number(turned), number(difference), number(tolerance), number(effect), percent(same_top)]),
  );
  const { prompts, places } = comparisons[0];
  const scope = `Largest difference of a log-probability in nats, over ${prompts} prompts and ${places} places`;
  const meaning = one_dial ? `Strength 1 is dial ${number(strength)}` : "Strength 1 is these dials together";
  return h(
    "section",
    { class: "card" },
    h("p", { class: `verdict ${agrees ? "good" : "bad"}` }, verdict),
    scroll("The proof", table(headings, rows)),
    h("p", { class: "faint" }, `${scope}, ${precision}. ${meaning}; strength 0 is the unsteered model.`),
  );
}

/** @param {ExportView} exported */
function engines({ engines: notes, adapter }) {
  const items = notes.map(({ engine, can, how }) => {
    const sign = h("span", { class: can ? "yes" : "no" }, can ? "✓" : "✗");
    return h("li", {}, sign, " ", h("strong", {}, engine), ": ", how);
  });
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "How engines load it"),
    h("ul", { class: "plain-list" }, items),
    adapter ? h("p", { class: "faint" }, `The model's own adapter goes along: ${adapter.how}.`) : null,
  );
}

/** @param {ExportView} exported */
function files({ id, folder, files: listed }) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(folder);
      toast("Copied");
    } catch {
      toast("This browser does not allow it");
    }
  };
  const items = listed.map(([name, size], place) => {
    const link = h("a", { href: exportFile(id, place), download: name.split("/").at(-1) }, name);
    return h("li", { class: "row spread" }, link, h("span", { class: "faint" }, bytes(size)));
  });
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Files"),
    h("p", { class: "row" }, h("code", { class: "wrap" }, folder), button("Copy the path", copy, { class: "small" })),
    h("ul", { class: "plain-list" }, items),
  );
}
