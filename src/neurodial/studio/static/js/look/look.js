// Look: a circuit's table, its whole, its neurons one by one, what two circuits share, and the doses of several.
import { circuitPage } from "./circuit.js";
import { dosesPage } from "./doses.js";
import { listPage } from "./list.js";
import { neuronPage } from "./neuron.js";
import { overlapPage } from "./overlap.js";
import { wholePage } from "./whole.js";
/** @import { Show } from "../../../types/page.d.ts" */

/**
 * Whether the page was left, and what is to be stopped when it is.
 * @typedef {object} Visit
 * @property {boolean} isOver
 * @property {(() => void) | null} stop
 */

/** @type {Show} */
export function show(main, { rest, query }) {
  /** @type {Visit} */
  const visit = { isOver: false, stop: null };
  const [id, kind, which] = rest;
  const how = { id, set: query.get("set"), shows: query.get("shows") !== null };
  if (which !== undefined && kind === "neuron") {
    const [layer, index] = which.split(".").map(Number);
    neuronPage(main, visit, { ...how, layer, index });
  } else if (kind === "whole") {
    wholePage(main, visit, how);
  } else if (kind === "doses") {
    dosesPage(main, visit, id.split(","));
  } else if (which !== undefined && kind === "with") {
    overlapPage(main, visit, id, which);
  } else if (id !== undefined) {
    circuitPage(main, visit, id, query);
  } else {
    listPage(main, visit);
  }
  return () => {
    visit.isOver = true;
    visit.stop?.();
  };
}
