// Every state has an address: #/view/rest?key=value

export function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { view: parts[0] || "chat", rest: parts.slice(1), query: new URLSearchParams(query) };
}

export function address(view, rest = [], values = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) {
    if (value === undefined || value === null || value === "" || value === false) continue;
    query.set(key, value === true ? "1" : String(value));
  }
  const text = query.toString();
  return `#/${[view, ...rest].map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

// Put the present state into the address without making a step in the history.
export function remember(view, rest, values) {
  const wanted = address(view, rest, values);
  if (location.hash !== wanted) history.replaceState(null, "", wanted);
}
