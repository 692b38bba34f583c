// Every state has an address: #/view/rest?key=value

/** @typedef {string | number | boolean | null | undefined} Value */

export function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { view: parts[0] || "chat", rest: parts.slice(1), query: new URLSearchParams(query) };
}

/**
 * @param {string} view
 * @param {string[]} [rest]
 * @param {Record<string, Value>} [values] empty ones are left out
 */
export function address(view, rest = [], values = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) {
    if (value !== undefined && value !== null && value !== "" && value !== false) {
      query.set(key, value === true ? "1" : String(value));
    }
  }
  const text = query.toString();
  return `#/${[view, ...rest].map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/**
 * Put the present state into the address without making a step in the history.
 * @param {string} view @param {string[]} rest @param {Record<string, Value>} values
 */
export function remember(view, rest, values) {
  const wanted = address(view, rest, values);
  if (location.hash !== wanted) {
    history.replaceState(null, "", wanted);
  }
}

/**
 * A form's values with those of the address over them, each read as the kind that the form starts with.
 * @template {Record<string, string | number | boolean>} Form
 * @param {Form} start
 * @param {Form} form
 * @param {URLSearchParams} query
 * @returns {Form}
 */
export function readQuery(start, form, query) {
  const given = Object.entries(start).flatMap(([key, kind]) => {
    const text = query.get(key);
    return text === null ? [] : [[key, readAs(kind, text)]];
  });
  return { ...form, ...Object.fromEntries(given) };
}

/** @param {string | number | boolean} kind @param {string} text */
function readAs(kind, text) {
  if (typeof kind === "number") {
    return Number(text);
  }
  return typeof kind === "boolean" ? text !== "0" : text;
}

/**
 * The job that an address names.
 * @param {URLSearchParams} query
 */
export function jobIn(query) {
  const text = query.get("job");
  return text ? Number(text) : null;
}
