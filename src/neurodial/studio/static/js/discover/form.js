// What the discover form holds, from the address, else from what this browser kept; and the request that it becomes.
import { keep, recall } from "../keep.js";
import { knownOnly, readOptions, textOf } from "../options.js";
import { readQuery, remember } from "../route.js";
/** @import { DiscoverForm, Given } from "../../../types/page.d.ts" */
/** @import { Discovery, Prompts } from "../../../types/requests.d.ts" */
/** @import { MethodForm } from "../../../types/views.d.ts" */

const START = {
  source: "refusal",
  positive: "",
  negative: "",
  lines: "",
  as: "lists",
  method: "cna",
  name: "",
};
const TEXTS = ["positive", "negative", "lines"]; // too long for an address

export const PASTE = "paste"; // the source that is not a prompt set

/** @param {URLSearchParams} query @param {MethodForm[]} methods @returns {DiscoverForm} */
export function readForm(query, methods) {
  /** @type {Partial<DiscoverForm>} */
  const kept = recall("discover", {});
  const values = readQuery(START, { ...START, ...texts(kept) }, query);
  const method = methods.find(({ name }) => name === values.method) || methods[0];
  const given = Object.fromEntries(methods.map(({ name, options }) => [name, knownOnly(options, kept.given?.[name])]));
  readOptions(method.options, query, given[method.name]);
  return { ...values, method: /** @type {DiscoverForm["method"]} */ (method.name), given };
}

/** What was kept of the fields of START. @param {Partial<DiscoverForm>} kept */
const texts = (kept) =>
  Object.fromEntries(Object.entries(kept).filter(([key, value]) => key in START && typeof value === "string"));

/** @param {DiscoverForm} form */
export const givenOf = (form) => form.given[form.method];

/** @param {DiscoverForm} form @param {MethodForm} method @param {number | null} job */
export function rememberForm(form, method, job) {
  const start = Object.entries(START).filter(([key]) => !TEXTS.includes(key));
  const changed = start.map(([key, value]) => [key, Reflect.get(form, key) === value ? null : Reflect.get(form, key)]);
  const given = givenOf(form);
  const named = method.options
    .filter(({ name }) => name in given)
    .map((option) => [option.name, textOf(option, given)]);
  remember("discover", [], { ...Object.fromEntries(changed), ...Object.fromEntries(named), job });
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

/** The request: what differs from the method's defaults. @param {DiscoverForm} form @returns {Discovery} */
export const askedDiscovery = (form) => ({
  prompts: askedPrompts(form),
  name: form.name || defaultName(form),
  method: form.method,
  options: /** @type {Given} */ (givenOf(form)),
});
