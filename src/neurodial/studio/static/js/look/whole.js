// A circuit as a whole: what it writes, where it drives, and vectors in words where there is a pair of models for it.
import { button, field, form } from "../controls.js";
import { fill, h } from "../dom.js";
import { loading, problem } from "../messages.js";
import { address } from "../route.js";
import { listPromptSets, startWhole } from "../server.js";
import { Explained, fitting, readingControls } from "./explained.js";
/** @import { More, On } from "./explained.js" */
/** @import { Visit } from "./look.js" */

/** @param {HTMLElement} main @param {Visit} visit @param {On} asked */
export async function wholePage(main, visit, asked) {
  fill(main, loading());
  try {
    const sets = await listPromptSets();
    if (visit.isOver) {
      return;
    }
    const on = { ...asked, set: fitting(sets, asked) };
    const { id, set, shows } = on;
    const explained = new Explained(
      visit,
      ({ words, vectors, prompt, at }) =>
        startWhole({ circuit: id, prompts: set, show_harmful: shows, words, vectors, prompt, at }),
      { beside: ({ pair }, read) => (pair ? promptForm(read) : null) },
    );
    const controls = readingControls(sets, on, (changed) => {
      const { set: chosen, shows: shown } = { ...on, ...changed };
      location.hash = address("look", [id, "whole"], { set: chosen, shows: shown });
    });
    fill(
      main,
      h(
        "div",
        { class: "page wide" },
        h("p", {}, h("a", { href: address("look", [id]) }, `← ${id}`)),
        h("div", { class: "row spread" }, h("h1", {}, `${id} as a whole`), controls),
        explained.beside,
        explained.body,
      ),
    );
    await explained.read();
  } catch (error) {
    if (!visit.isOver) {
      fill(main, problem(error, h("a", { class: "button", href: "#/look" }, "All circuits")));
    }
  }
}

/** @param {(more: More) => void} read */
function promptForm(read) {
  const prompt = h("input", { type: "text", required: true, maxlength: 20000 });
  const at = h("input", { type: "text", value: "last", size: 12, required: true, maxlength: 80 });
  return form(
    "row bottom",
    () => read({ prompt: prompt.value, at: at.value }),
    field("The activation at a prompt", prompt),
    field("at its tokens", at),
    button("Put it into words", undefined, { type: "submit", title: "last, or indices; negative ones from the end" }),
  );
}
