// What the discover form holds, from the address, else from what this browser kept; and the request that it becomes.
import { keep, recall } from "../keep.js";
import { readQuery, remember } from "../route.js";
/** @import { DiscoverForm } from "../../../types/page.d.ts" */
/** @import { Discovery, Prompts } from "../../../types/requests.d.ts" */

/** @type {DiscoverForm} */
const START = {
  source: "refusal",
  positive: "",
  negative: "",
  lines: "",
  as: "lists",
  method: "cna",
  size: "fraction",
  fraction: 0.001,
  count: 46,
  score: "",
  sign: "",
  position: "last",
  universal: true,
  budget: 0.05,
  direction: "remove",
  x_max: 3,
  margin: "",
  broken: "",
  dose_sign: "",
  name: "",
  system: "",
};
const TEXTS = ["positive", "negative", "lines"]; // too long for an address

export const PASTE = "paste"; // the source that is not a prompt set

/** @param {URLSearchParams} query */
export const readForm = (query) => readQuery(START, { ...START, ...recall("discover", {}) }, query);

/** @param {DiscoverForm} form @param {number | null} job */
export function rememberForm(form, job) {
  const changed = Object.entries(form)
    .filter(([key, value]) => value !== START[key] && !TEXTS.includes(key))
    .map(([key, value]) => [key, value === false ? "0" : value]);
  remember("discover", [], { ...Object.fromEntries(changed), job });
}

/** @param {DiscoverForm} form */
export const keepForm = (form) => keep("discover", form);

/** @param {DiscoverForm} form @returns {Prompts} */
export function askedPrompts({ source, as, lines, positive, negative, name }) {
  if (source !== PASTE) {
    return { set: source };
  }
  if (as === "lines") {
    return { lines, name: name || "mine" };
  }
  return { positive: split(positive), negative: split(negative), name: name || "mine" };
}

/** @param {string} text */
const split = (text) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);

/** What the circuit is called where no name is given. @param {DiscoverForm} form */
export const defaultName = ({ source }) => (source === PASTE ? "mine" : source);

/**
 * The request. What a method does not have is not sent.
 * @param {DiscoverForm} form
 * @returns {Discovery}
 */
export function askedDiscovery(form) {
  const { method, name, system } = form;
  const options = { cna: cnaOptions(form), dose: doseOptions(form), "cna-reference": {} };
  return {
    prompts: askedPrompts(form),
    name: name || defaultName(form),
    method,
    system,
    fraction: null,
    count: null,
    budget: null,
    direction: null,
    x_max: null,
    margin: null,
    max_degenerate: null,
    score: null,
    sign: null,
    position: null,
    universal: true,
    ...options[method],
  };
}

/** @param {DiscoverForm} form */
const sizeOptions = ({ size, fraction, count }) => (size === "fraction" ? { fraction } : { count });

/** @param {DiscoverForm} form */
function cnaOptions(form) {
  const { score, sign, position, universal } = form;
  return {
    ...sizeOptions(form),
    score: score || null,
    sign: sign || null,
    position: position === "last" ? null : position,
    universal,
  };
}

/** @param {DiscoverForm} form */
function doseOptions(form) {
  const { budget, direction, x_max, margin, broken, dose_sign } = form;
  return {
    ...sizeOptions(form),
    budget,
    direction,
    x_max,
    margin: margin || null,
    max_degenerate: broken ? Number(broken) : null,
    sign: dose_sign || null,
  };
}
