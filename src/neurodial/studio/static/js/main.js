// The frame of the page: which view is shown, and what is the same in all of them.
import { h, fill, part } from "./dom.js";
import { startJobsPanel } from "./jobs-panel.js";
import { blank, loading, problem } from "./messages.js";
import { rememberExperts } from "./names.js";
import { grouped } from "./numbers.js";
import { address, route } from "./route.js";
import { getModel } from "./server.js";
import { startShortcuts } from "./shortcuts.js";
import "./theme.js";
/** @import { Show } from "../../types/page.d.ts" */
/** @import { Model } from "../../types/views.d.ts" */

/** @type {Record<string, { title: string, load: () => Promise<{ show: Show }> }>} */
const VIEWS = {
  chat: { title: "Chat", load: () => import("./chat/chat.js") },
  discover: { title: "Discover", load: () => import("./discover/discover.js") },
  look: { title: "Look", load: () => import("./look/look.js") },
  measure: { title: "Measure", load: () => import("./measure/measure.js") },
  export: { title: "Export", load: () => import("./export/export.js") },
};

const main = part("main");
const tabs = Object.entries(VIEWS).map(([view, { title }]) =>
  h("a", { href: address(view), "data-view": view }, title),
);
/** @type {(() => void) | null} */
let leave = null;
let turns = 0;
/** @type {Model | null} */
let model = null;

async function show() {
  const { view, rest, query } = route();
  turns += 1;
  const turn = turns;
  mark(view);
  leave?.();
  leave = null;
  main.className = `view-${view}`;
  if (!VIEWS[view]) {
    const back = h("a", { class: "button", href: "#/chat" }, "To the chat");
    fill(main, blank("There is no such page", `Nothing is at “${view}”.`, back));
    return;
  }
  document.title = `${VIEWS[view].title} · neurodial studio`;
  try {
    model ??= await firstModel();
    const module = await VIEWS[view].load();
    if (turn === turns) {
      leave = module.show(main, { rest, query, model });
    }
  } catch (error) {
    if (turn === turns) {
      fill(main, problem(error, h("button", { onclick: () => show() }, "Try again")));
    }
  }
}

/** @param {string} view the one whose tab is marked */
function mark(view) {
  for (const link of tabs) {
    if (link.dataset.view === view) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
}

async function firstModel() {
  fill(main, loading());
  const found = await getModel();
  const label = part("model");
  label.textContent = found.label;
  const size = `${found.widths.length} layers, ${grouped(found.neurons)} neurons`;
  rememberExperts(found.experts);
  label.title = `${found.family}, ${size}, ${found.dtype}`;
  return found;
}

part("tabs").append(...tabs);
addEventListener("hashchange", show);
show();
startJobsPanel();
startShortcuts();
