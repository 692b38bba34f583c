// Keys for what is done often; “?” lists them. Each presses or focuses what a pointer would.
import { iconButton } from "./controls.js";
import { fill, h, part } from "./dom.js";

/** @typedef {{ keys: string, text: string, press?: string, focus?: string }} Shortcut */

/** @type {[title: string, shortcuts: Shortcut[]][]} */
const GROUPS = [
  [
    "Everywhere",
    [
      { keys: "Alt+1", text: "Chat", press: "#tabs a:nth-child(1)" },
      { keys: "Alt+2", text: "Discover", press: "#tabs a:nth-child(2)" },
      { keys: "Alt+3", text: "Look", press: "#tabs a:nth-child(3)" },
      { keys: "Alt+4", text: "Measure", press: "#tabs a:nth-child(4)" },
      { keys: "Alt+5", text: "Export", press: "#tabs a:nth-child(5)" },
      { keys: "Alt+J", text: "Jobs: what runs, and cancel", press: "#jobs-button" },
      { keys: "Alt+T", text: "Light or dark", press: "#theme" },
      {
        keys: "/",
        text: "To the prompt, the filter or the first field",
        focus: "#prompt, main [type=search], main form :is(input, select, textarea)",
      },
      { keys: "?", text: "This list", press: "#keys" },
      { keys: "Escape", text: "Close what is open" },
    ],
  ],
  [
    "Chat",
    [
      { keys: "Enter", text: "Send; Shift+Enter breaks the line" },
      { keys: "Alt+D", text: "To the first dial; arrow keys turn it", focus: ".dial input[type=range]" },
      { keys: "Alt+A", text: "Answer the last prompt again", press: ".turn:last-child [aria-label='Answer again']" },
      { keys: "Alt+S", text: "Answer the last prompt at several dials", press: ".turn:last-child .strip-button" },
      { keys: "Alt+X", text: "Stop", press: "#stop" },
      { keys: "Alt+N", text: "New chat", press: "#new-chat" },
      { keys: "Alt+K", text: "Name, open or save the conversation", press: ".talk > summary" },
      { keys: "← → ↑ ↓", text: "In an answer: from token to token" },
    ],
  ],
  [
    "Maps and tables",
    [
      { keys: "← → ↑ ↓", text: "On a map or a distribution: from neuron to neuron; Home and End to the ends" },
      { keys: "Enter", text: "On a map: open the neuron" },
    ],
  ],
];

const ALL = GROUPS.flatMap(([, shortcuts]) => shortcuts).filter(({ press, focus }) => press || focus);
const dialog = h("dialog", { class: "keys", "aria-label": "Keyboard shortcuts" });

/** @param {KeyboardEvent} event */
function meant(event) {
  const isTyping = event.target instanceof Element && event.target.matches("input, textarea, select");
  return ALL.find(({ keys }) => {
    if (keys.startsWith("Alt+")) {
      const letter = keys.slice(4);
      return event.altKey && (event.code === `Key${letter}` || event.code === `Digit${letter}`);
    }
    return !isTyping && !event.altKey && !event.ctrlKey && !event.metaKey && event.key === keys;
  });
}

/** @param {KeyboardEvent} event */
function onkeydown(event) {
  const shortcut = event.ctrlKey || event.metaKey ? undefined : meant(event);
  const target = shortcut && document.querySelector(shortcut.press ?? shortcut.focus ?? "");
  if (target instanceof HTMLElement && !target.hidden) {
    event.preventDefault();
    target.focus();
    if (shortcut?.press) {
      target.click();
    }
  }
}

/** @param {[string, Shortcut[]]} group */
const drawGroup = ([title, shortcuts]) => [
  h("h3", {}, title),
  h(
    "dl",
    {},
    shortcuts.map(({ keys, text }) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, text)]),
  ),
];

export function startShortcuts() {
  const close = iconButton("close", "Close the list of shortcuts", () => dialog.close());
  fill(dialog, h("header", { class: "row spread" }, h("h2", {}, "Keyboard shortcuts"), close), GROUPS.map(drawGroup));
  document.body.append(dialog);
  part("keys").addEventListener("click", () => (dialog.open ? dialog.close() : dialog.showModal()));
  addEventListener("keydown", onkeydown);
}
