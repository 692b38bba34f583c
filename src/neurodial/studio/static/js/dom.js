// Building the page. Text only ever becomes a text node: what a model or a prompt says is never read as HTML.
/** @import { Child, Properties } from "../../types/page.d.ts" */

// Set as properties: as attributes they would only be what an input starts with.
const LIVE = ["value", "checked", "disabled", "selected"];

/**
 * An element with its attributes, handlers (`onclick` and so on) and children.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Properties<HTMLElementTagNameMap[Tag]>} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value !== undefined && value !== null && value !== false) {
      set(element, name, value);
    }
  }
  append(element, children);
  return element;
}

/**
 * @param {HTMLElement} element
 * @param {string} name
 * @param {unknown} value
 */
function set(element, name, value) {
  if (name.startsWith("on")) {
    element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
  } else if (name === "class") {
    element.className = String(value);
  } else if (name === "style") {
    for (const [key, text] of Object.entries(/** @type {Record<string, string>} */ (value))) {
      element.style.setProperty(key, text);
    }
  } else if (LIVE.includes(name)) {
    Reflect.set(element, name, value);
  } else {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Child[]} children
 * @returns {E}
 */
export function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) {
      append(element, child);
    } else if (child instanceof Node) {
      element.append(child);
    } else if (child !== undefined && child !== null && child !== false) {
      element.append(document.createTextNode(String(child)));
    }
  }
  return element;
}

/**
 * Put children in the place of what an element holds.
 * @template {Element} E
 * @param {E} element
 * @param {...Child} children
 * @returns {E}
 */
export function fill(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

/**
 * A glyph of one line.
 * @param {string} path
 */
export function svg(path) {
  const space = "http://www.w3.org/2000/svg";
  const root = document.createElementNS(space, "svg");
  root.setAttribute("viewBox", "0 0 24 24");
  root.setAttribute("class", "glyph");
  root.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(space, "path");
  line.setAttribute("d", path);
  root.append(line);
  return root;
}

/**
 * An element that the page itself brings along.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function part(id) {
  const element = document.getElementById(id);
  if (!element) {
    throw new Error(`The page has no part “${id}”.`);
  }
  return element;
}
