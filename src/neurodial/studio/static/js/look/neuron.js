// One neuron: what it writes, and where it fires.
import { follow } from "../api.js";
import { field, select } from "../controls.js";
import { fill, h } from "../dom.js";
import { loading, problem } from "../messages.js";
import { address } from "../route.js";
import { cancelJob, getNeuron, listPromptSets, startNeuron } from "../server.js";
import { drawNeuron } from "./neuron-view.js";
/** @import { Option } from "../../../types/page.d.ts" */
/** @import { PromptSet } from "../../../types/views.d.ts" */
/** @import { Visit } from "./look.js" */

/**
 * A neuron of a circuit, and the prompt set that it is read on; none: the one that fits.
 * @typedef {{ id: string, layer: number, index: number, set: string | null }} Asked
 */

/** @param {HTMLElement} main @param {Visit} visit @param {Asked} asked */
export async function neuronPage(main, visit, asked) {
  fill(main, loading());
  const body = h("div", { class: "stack" }, loading("The model reads the prompts …"));
  try {
    const sets = await listPromptSets();
    if (visit.isOver) {
      return;
    }
    const chosen = fitting(sets, asked);
    fill(main, frame(asked, sets, chosen, body));
    await read(body, visit, { layer: asked.layer, index: asked.index, prompts: chosen });
  } catch (error) {
    fill(body.isConnected ? body : main, problem(error));
  }
}

/** @param {PromptSet[]} sets @param {Asked} asked */
function fitting(sets, { id, set }) {
  const known = [set, id].find((wanted) => sets.some((one) => one.id === wanted));
  return known ?? "refusal";
}

/** @param {Asked} asked @param {PromptSet[]} sets @param {string} chosen @param {HTMLElement} body */
function frame({ id, layer, index }, sets, chosen, body) {
  const choose = (/** @type {string} */ set) => {
    location.hash = address("look", [id, "neuron", `${layer}.${index}`], { set });
  };
  /** @type {Option[]} */
  const options = sets.map((set) => [set.id, set.title || set.id]);
  return h(
    "div",
    { class: "page wide" },
    h("p", {}, h("a", { href: address("look", [id]) }, `← ${id}`)),
    h(
      "div",
      { class: "row spread" },
      h("h1", {}, `Layer ${layer}, neuron ${index}`),
      field("Contrast prompts", select(options, chosen, choose)),
    ),
    body,
  );
}

/**
 * @param {HTMLElement} body
 * @param {Visit} visit
 * @param {{ layer: number, index: number, prompts: string }} asked
 */
async function read(body, visit, asked) {
  const job = await startNeuron(asked);
  if (visit.isOver) {
    cancelJob(job.id);
    return;
  }
  const unfollow = follow(
    job.id,
    () => {},
    async ({ state, error }) => {
      visit.stop = null;
      if (state !== "done") {
        fill(body, problem({ words: error || { problem: "It was cancelled." } }));
        return;
      }
      const neuron = await getNeuron(job.id);
      if (!visit.isOver) {
        drawNeuron(body, neuron);
      }
    },
  );
  visit.stop = () => {
    unfollow();
    cancelJob(job.id).catch(() => {}); // nobody waits for it any more
  };
}
