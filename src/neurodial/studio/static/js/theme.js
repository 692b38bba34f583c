// Light and dark: as the system has it, until the user chooses.
import { glyphs } from "./controls.js";
import { fill, part, svg } from "./dom.js";
import { keep, recall } from "./keep.js";

const button = part("theme");
const preferred = matchMedia("(prefers-color-scheme: dark)");

const chosen = () => recall("theme", /** @type {string | null} */ (null));
const systems = () => (preferred.matches ? "dark" : "light");

/** @param {string} theme */
function apply(theme) {
  const isDark = theme === "dark";
  document.documentElement.dataset.theme = theme;
  fill(button, svg(isDark ? glyphs.sun : glyphs.moon));
  button.setAttribute("aria-label", isDark ? "Switch to light" : "Switch to dark");
  dispatchEvent(new Event("themechange"));
}

apply(chosen() || systems());
preferred.addEventListener("change", () => {
  if (!chosen()) {
    apply(systems());
  }
});
button.addEventListener("click", () => {
  const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  keep("theme", other);
  apply(other);
});
