// Files that somebody shared: a conversation, a run or a circuit, checked by the server before anything is kept.
import { button } from "./controls.js";
import { fill, h } from "./dom.js";
import { problem, toast } from "./messages.js";
import { address } from "./route.js";
import { openFile } from "./server.js";
/** @import { Opened } from "../../types/views.d.ts" */

/** Opens what it was. @param {Opened} opened */
function show({ kind, id, notes }) {
  notes.forEach((note) => toast(note));
  const places = {
    circuit: address("look", [id]),
    conversation: address("chat", [], { talk: id }),
    run: address("measure", ["report", id]),
  };
  location.hash = places[kind];
}

/** A button that asks for a file; what is wrong with it stands below the button. */
export function openButton() {
  const input = h("input", { type: "file", accept: ".json", hidden: true, "aria-label": "File to open" });
  const trouble = h("div");
  input.addEventListener("change", async () => {
    const [file] = input.files ?? [];
    fill(trouble);
    try {
      if (file) {
        show(await openFile({ name: file.name, text: await file.text() }));
      }
    } catch (error) {
      fill(trouble, problem(error));
    }
    input.value = ""; // the same file may be chosen again
  });
  const label = "Open a file …";
  const title = "A conversation, a run or a circuit that the studio or a command wrote";
  return h(
    "div",
    { class: "open-file" },
    button(label, () => input.click(), { title }),
    input,
    trouble,
  );
}

/** @param {string} href @param {string} text */
export const downloadLink = (href, text) => h("a", { class: "button", href, download: "" }, text);
