// What a neuron writes and where it fires, drawn.
import { fill, h } from "../dom.js";
import { explain } from "../explain.js";
import { number, visible } from "../numbers.js";
import { bar } from "../table.js";
/** @import { FiringPrompt, FiringSide, Fires, NeuronView } from "../../../types/views.d.ts" */

/** @param {HTMLElement} body @param {NeuronView} neuron */
export function drawNeuron(body, { writes, holds_down, fires }) {
  const top = Math.max(...[...writes, ...holds_down].map(([, weight]) => Math.abs(weight)), 1e-9);
  const prefix = sharedStart([...fires.positive.prompts, ...fires.negative.prompts]);
  const draw = (/** @type {FiringPrompt} */ prompt) => drawPrompt(prompt, prefix, fires.largest);
  fill(
    body,
    h(
      "section",
      { class: "card" },
      h("h2", {}, "What it writes", explain("writes")),
      h(
        "div",
        { class: "grid two" },
        drawWritten("pushes up", writes, "up", top),
        drawWritten("pushes down", holds_down, "down", top),
      ),
    ),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Where it fires", explain("fires")),
      drawStrip(fires),
      h(
        "div",
        { class: "grid two" },
        drawSide("positive", fires.positive, draw),
        drawSide("negative", fires.negative, draw),
      ),
    ),
  );
}

/** @param {string} title @param {[string, number][]} written @param {"up" | "down"} side @param {number} top */
function drawWritten(title, written, side, top) {
  const rows = written.map(([text, weight]) =>
    h(
      "li",
      {},
      h("code", {}, visible(text)),
      bar(side, Math.abs(weight) / top),
      h("span", { class: "faint" }, number(weight)),
    ),
  );
  return h("div", {}, h("h3", {}, title), h("ol", { class: "written" }, rows));
}

/**
 * How many tokens all prompts begin with: the template, which is left out.
 * @param {FiringPrompt[]} prompts
 */
function sharedStart(prompts) {
  if (prompts.length < 2) {
    return 0;
  }
  const [{ tokens }] = prompts;
  const isShared = (/** @type {number} */ place) =>
    prompts.every((prompt) => place < Math.min(...prompt.read) && prompt.tokens[place] === tokens[place]);
  let length = 0;
  while (isShared(length)) {
    length += 1;
  }
  return length;
}

/** @param {string} name @param {FiringSide} side @param {(prompt: FiringPrompt) => HTMLElement} draw */
function drawSide(name, { mean, prompts }, draw) {
  const title = `${name} prompts, mean ${number(mean)} where they are read`;
  return h("div", {}, h("h3", {}, title), prompts.map(draw));
}

/** @param {FiringPrompt} prompt @param {number} prefix @param {number} largest */
function drawPrompt({ tokens, values, read }, prefix, largest) {
  const cut = prefix ? h("span", { class: "faint", title: "what every prompt begins with" }, "… ") : null;
  const shown = tokens.slice(prefix).map((text, place) => {
    const at = prefix + place;
    return drawToken(text, values[at], largest, read.includes(at));
  });
  return h("p", { class: "fired" }, cut, shown);
}

/** @param {string} text @param {number} value @param {number} largest @param {boolean} isRead */
function drawToken(text, value, largest, isRead) {
  const share = Math.min(1, Math.abs(value) / (largest || 1));
  const properties = {
    class: `token ${value >= 0 ? "up" : "down"}${isRead ? " read" : ""}`,
    style: { "--move": `${Math.round(100 * share)}%` },
    title: `${visible(text)}: ${number(value)}${isRead ? ", read here" : ""}`,
  };
  return h("span", properties, text === "\n" && isRead ? "↵" : text);
}

/**
 * Every prompt's activation where it is read, a tick each: how far the sides lie apart.
 * @param {Fires} fires
 */
function drawStrip({ positive, negative }) {
  const values = [...positive.read, ...negative.read];
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values);
  const at = (/** @type {number | null} */ value) => `${(100 * ((value ?? 0) - low)) / (high - low || 1)}%`;
  const means = `positive mean ${number(positive.mean)}, negative mean ${number(negative.mean)}`;
  return h(
    "div",
    { class: "strip", role: "img", "aria-label": `Activations: ${means}` },
    drawTicks("positive", positive, at),
    drawTicks("negative", negative, at),
    h(
      "div",
      { class: "row spread faint" },
      h("span", {}, number(low)),
      h("span", {}, "activation where the prompt is read"),
      h("span", {}, number(high)),
    ),
  );
}

/** @param {string} name @param {FiringSide} side @param {(value: number | null) => string} at */
function drawTicks(name, { read, mean }, at) {
  const ticks = read.map((value) => h("i", { style: { left: at(value) } }));
  const middle = h("b", { style: { left: at(mean) } });
  return h("div", { class: name }, h("span", {}, name), h("div", { class: "ticks" }, ticks, middle));
}
