// One dial: a slider from the other way to beyond the full circuit, and the exact number beside it.
import { h, iconButton } from "./dom.js";

const LOW = -2;
const HIGH = 3;

export function dialWord(value) {
  if (value === 0) return "unsteered";
  if (value < 0) return "the other way";
  if (value < 1) return "part of the way";
  if (value === 1) return "full circuit";
  return "beyond the full circuit";
}

export function dial({ id, name, value, direction, neurons, off }, onchange, onremove) {
  const word = h("span", { class: "word" });
  const slider = h("input", {
    type: "range",
    min: LOW,
    max: HIGH,
    step: 0.05,
    value,
    "aria-label": `Dial of ${name}`,
    list: "dial-marks",
    id: `dial-${id}`,
  });
  const exact = h("input", {
    type: "number",
    min: -100,
    max: 100,
    step: 0.05,
    value,
    "aria-label": `Exact dial of ${name}`,
    class: "exact",
  });
  const element = h(
    "div",
    { class: "dial" },
    h(
      "div",
      { class: "row spread" },
      h("label", { for: `dial-${id}` }, name),
      h("span", { class: "row tight" }, exact, iconButton("close", `Take ${name} out`, onremove)),
    ),
    h(
      "div",
      { class: "track" },
      slider,
      h(
        "div",
        { class: "marks", "aria-hidden": "true" },
        [
          [-2, "−2"],
          [-1, "−1"],
          [0, "0"],
          [1, "1"],
          [2, "2"],
          [3, "3"],
        ].map(([at, text]) => h("span", { style: { left: `${(100 * (at - LOW)) / (HIGH - LOW)}%` } }, text)),
      ),
    ),
    h(
      "div",
      { class: "row spread faint" },
      word,
      h("a", { href: `#/look/${encodeURIComponent(id)}` }, `${neurons - off} neurons${off ? `, ${off} off` : ""}`),
    ),
  );
  function set(next, from) {
    const clean = Math.max(-100, Math.min(100, Number.isFinite(next) ? Math.round(next * 1000) / 1000 : 0));
    if (from !== slider) slider.value = clean;
    if (from !== exact) exact.value = clean;
    word.textContent =
      dialWord(clean) + (clean > 0 && clean <= 1 ? ` (${direction === "induce" ? "induces" : "removes"})` : "");
    element.dataset.zone = clean < 0 ? "other" : clean > 1 ? "beyond" : clean === 0 ? "zero" : "in";
    slider.setAttribute("aria-valuetext", `${clean}: ${dialWord(clean)}`);
    return clean;
  }
  set(value);
  slider.addEventListener("input", () => {
    const near = [-1, 0, 1, 2].find((mark) => Math.abs(slider.valueAsNumber - mark) < 0.04);
    onchange(set(near ?? slider.valueAsNumber, near === undefined ? slider : null));
  });
  exact.addEventListener("change", () => onchange(set(exact.valueAsNumber, exact)));
  return element;
}
