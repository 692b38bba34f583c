// Building the page. Text only ever becomes a text node: what a model or a prompt says is never read as HTML.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected")
      element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren();
  return append(element, children);
}

export function svg(path, label) {
  const space = "http://www.w3.org/2000/svg";
  const root = document.createElementNS(space, "svg");
  root.setAttribute("viewBox", "0 0 24 24");
  root.setAttribute("class", "glyph");
  if (label) {
    root.setAttribute("role", "img");
    root.setAttribute("aria-label", label);
  } else root.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(space, "path");
  line.setAttribute("d", path);
  root.append(line);
  return root;
}

export const glyphs = {
  send: "M4 12h15M13 6l6 6-6 6",
  stop: "M7 7h10v10H7z",
  again: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  edit: "M5 19h3l10-10-3-3L5 16zM13 8l3 3",
  close: "M6 6l12 12M18 6 6 18",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5 19 19M5 19l1.5-1.5M17.5 6.5 19 5",
  moon: "M19 14.5A7.5 7.5 0 0 1 9.5 5a7.5 7.5 0 1 0 9.500 9.500z",
  plus: "M12 5v14M5 12h14",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
};

export const button = (text, onclick, properties = {}) => h("button", { type: "button", onclick, ...properties }, text);

export function iconButton(glyph, label, onclick, properties = {}) {
  return h(
    "button",
    { type: "button", class: "quiet icon", "aria-label": label, title: label, onclick, ...properties },
    svg(glyphs[glyph]),
  );
}

export function field(label, input, help) {
  const id = input.id || `f${(field.count = (field.count || 0) + 1)}`;
  input.id = id;
  const hint = help ? h("small", { id: `${id}-help` }, help) : null;
  if (hint) input.setAttribute("aria-describedby", hint.id);
  return h("div", { class: "field" }, h("label", { for: id }, label), input, hint);
}

export function select(options, chosen, onchange) {
  return h(
    "select",
    { onchange: (event) => onchange(event.target.value) },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
}

export function problem(error, ...actions) {
  const words = error.words || { problem: String(error.message || error) };
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, h("strong", {}, words.problem)),
    words.wanted && h("p", {}, "Wanted: ", words.wanted),
    words.fix && h("p", {}, words.fix),
    actions.length ? h("p", { class: "row" }, actions) : null,
  );
}

export function blank(title, text, ...actions) {
  return h(
    "div",
    { class: "blank" },
    h("h2", {}, title),
    text && h("p", {}, text),
    actions.length ? h("p", { class: "row center" }, actions) : null,
  );
}

export function loading(text = "Loading …") {
  return h("p", { class: "loading", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), text);
}

export function toast(text) {
  const note = h("div", { class: "toast" }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 5000);
}

export const percent = (share, digits = 0) => `${(100 * share).toFixed(share > 0 && share < 0.01 ? 2 : digits)} %`;

export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.0005 || size >= 1e6) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}
