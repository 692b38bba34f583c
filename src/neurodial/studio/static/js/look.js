// Look: a circuit's table, its neurons one by one, and what two circuits share.
import { follow, get, post, remove } from "./api.js";
import { blank, button, field, fill, h, loading, number, percent, problem, select, toast } from "./dom.js";
import { setSwitchedOff, switchedOff } from "./keep.js";
import { drawHistogram, drawMap, folds, layerBars, unpack } from "./map.js";
import { address, remember } from "./route.js";
import { visible } from "./tokens.js";
import { explain } from "./words.js";

export function show(main, { rest, query }) {
  const state = { gone: false, stop: null };
  if (rest.length >= 3 && rest[1] === "neuron")
    neuronPage(main, rest[0], ...rest[2].split(".").map(Number), query, state);
  else if (rest.length >= 3 && rest[1] === "with") overlapPage(main, rest[0], rest[2], state);
  else if (rest.length) circuitPage(main, rest[0], query, state);
  else listPage(main, state);
  return () => {
    state.gone = true;
    if (state.stop) state.stop();
  };
}

async function listPage(main, state) {
  fill(main, loading());
  try {
    const circuits = await get("/api/circuits");
    if (state.gone) return;
    if (circuits.length === 1) {
      location.replace(address("look", [circuits[0].id]));
      return;
    }
    if (!circuits.length) {
      fill(
        main,
        blank(
          "No circuits yet",
          "Find one from contrast prompts, or start the studio with --circuit name=file.",
          h("a", { class: "button primary", href: "#/discover" }, "Discover a circuit"),
        ),
      );
      return;
    }
    fill(
      main,
      h(
        "div",
        { class: "page" },
        h("h1", {}, "Circuits"),
        h(
          "ul",
          { class: "cards" },
          circuits.map((one) =>
            h(
              "li",
              { class: "card" },
              h("h2", {}, h("a", { href: address("look", [one.id]) }, one.name)),
              h(
                "p",
                { class: "faint" },
                `${one.neurons} neurons · dial 1 ${one.direction}s · ${one.given ? "came with the command" : "saved"}`,
              ),
            ),
          ),
        ),
      ),
    );
  } catch (error) {
    fill(main, problem(error));
  }
}

async function circuitPage(main, id, query, state) {
  fill(main, loading());
  let circuit;
  let scores;
  let all;
  try {
    [{ circuit, scores }, all] = await Promise.all([
      get(`/api/circuits/${encodeURIComponent(id)}`),
      get("/api/circuits"),
    ]);
  } catch (error) {
    if (!state.gone) fill(main, problem(error, h("a", { class: "button", href: "#/look" }, "All circuits")));
    return;
  }
  if (state.gone) return;
  const others = all.filter((one) => one.id !== id);
  fill(
    main,
    h(
      "div",
      { class: "page wide" },
      h(
        "div",
        { class: "row spread" },
        h(
          "div",
          {},
          h("h1", {}, circuit.name),
          h(
            "p",
            { class: "faint" },
            `${circuit.neurons} neurons${circuit.share ? ` (${percent(circuit.share, 2)})` : ""} · dial 1 ${circuit.direction}s · ${circuit.method.kind || "by hand"} on ${circuit.model || "an unknown model"}`,
          ),
        ),
        h(
          "div",
          { class: "row" },
          all.length > 1
            ? field(
                "Circuit",
                select(
                  all.map((one) => [one.id, one.name]),
                  id,
                  (value) => {
                    location.hash = address("look", [value]);
                  },
                ),
              )
            : null,
          others.length
            ? field(
                "Overlap with",
                select([["", "choose …"], ...others.map((one) => [one.id, one.name])], "", (value) => {
                  if (value) location.hash = address("look", [id, "with", value]);
                }),
              )
            : null,
          h("a", { class: "button primary", href: address("chat", [], { c: `${id}@1` }) }, "Try it in the chat"),
        ),
      ),
      h(
        "div",
        { class: "grid two" },
        h(
          "section",
          { class: "card" },
          h("h2", {}, "Where it sits"),
          layerBars(circuit.layers),
          h("p", { class: "faint" }, "neurons in each layer"),
        ),
        aboutCard(circuit),
      ),
      scores
        ? h(
            "div",
            { class: "grid map-grid" },
            h(
              "section",
              { class: "card" },
              h("h2", {}, "Every neuron's score", explain("rank")),
              drawMap(unpack(scores), (layer, index) => {
                location.hash = address("look", [id, "neuron", `${layer}.${index}`]);
              }),
            ),
            h(
              "section",
              { class: "card" },
              h("h2", {}, "Distribution", explain("cutoff")),
              drawHistogram(scores.histogram, scores.cutoff),
            ),
          )
        : null,
      table(circuit, id, query),
    ),
  );
}

export function aboutCard(circuit) {
  const m = circuit.report && circuit.report.measured;
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "How sure, and at what cost"),
    circuit.stability
      ? h(
          "div",
          { class: "row" },
          folds(circuit.stability),
          h(
            "p",
            {},
            h("strong", {}, percent(circuit.stability.mean)),
            ` of the neurons are chosen again without a fold (lowest ${percent(circuit.stability.low)})`,
            explain("stability"),
          ),
        )
      : h("p", { class: "faint" }, "Stability was not measured."),
    circuit.universal
      ? h(
          "p",
          {},
          `${circuit.universal.flagged} universal neurons flagged, ${circuit.universal.removed.length} of them kept out of the circuit`,
          explain("universal"),
          circuit.universal.removed.length
            ? h(
                "details",
                {},
                h("summary", { class: "faint" }, "which"),
                h(
                  "p",
                  { class: "faint" },
                  circuit.universal.removed.map(([layer, index]) => `${layer}.${index}`).join(", "),
                ),
              )
            : null,
        )
      : null,
    m
      ? h(
          "p",
          {},
          `At dial 1 on development prompts: margin ${number(m.margin_before)} → ${number(m.margin)}; damage ${number(m.divergence)} nats per token (predicted ${number(circuit.report.predicted.divergence)})`,
        )
      : null,
    circuit.report && circuit.report.openers
      ? h(
          "p",
          { class: "faint" },
          "Openers: ",
          circuit.report.openers.map((text, place) => [place ? " · " : "", h("code", {}, visible(text))]),
        )
      : null,
    h(
      "details",
      {},
      h("summary", { class: "faint" }, "How it was made"),
      h(
        "dl",
        {},
        Object.entries({ ...circuit.method, ...circuit.prompts, created: circuit.created }).map(([key, value]) => [
          h("dt", {}, key.replaceAll("_", " ")),
          h("dd", {}, String(value)),
        ]),
      ),
    ),
  );
}

// -------------------------------------------------------------------- the table

const COLUMNS = [
  ["layer", "layer"],
  ["index", "neuron"],
  ["score", "score"],
  ["dose", "dose"],
  ["kept", "kept in folds"],
];

function table(circuit, id, query) {
  const off = new Set(switchedOff(id).map(([layer, index]) => `${layer}.${index}`));
  let sort = query.get("sort") || "score";
  let down = query.get("up") === null;
  let wanted = query.get("find") || "";
  const body = h("tbody");
  const heads = COLUMNS.map(([key, title]) =>
    h(
      "th",
      { scope: "col" },
      h(
        "button",
        {
          type: "button",
          class: "link",
          onclick: () => {
            if (sort === key) down = !down;
            else {
              sort = key;
              down = true;
            }
            draw();
          },
        },
        title,
      ),
      ["score", "dose", "kept"].includes(key) ? explain(key) : null,
    ),
  );
  const count = h("span", { class: "faint", role: "status" });
  const largest = Math.max(...circuit.rows.map((row) => Math.abs(row[2])), 1e-12);

  function changed() {
    setSwitchedOff(
      id,
      circuit.rows.filter((row) => off.has(`${row[0]}.${row[1]}`)).map((row) => [row[0], row[1]]),
    );
    draw();
  }
  function matches(row) {
    const words = wanted.trim().toLowerCase();
    if (!words) return true;
    if (words === "off") return off.has(`${row[0]}.${row[1]}`);
    if (/^(layer )?\d+$/.test(words)) {
      const digits = words.replace("layer ", "");
      return String(row[0]) === digits || (!words.startsWith("layer") && String(row[1]) === digits);
    }
    if (/^\d+\.\d*$/.test(words)) return `${row[0]}.${row[1]}`.startsWith(words);
    const range = words.match(/^(\d+)\s*-\s*(\d+)$/);
    if (range) return row[0] >= Number(range[1]) && row[0] <= Number(range[2]);
    const more = words.match(/^([<>])\s*(-?[\d.]+)$/);
    if (more) return more[1] === ">" ? row[2] > Number(more[2]) : row[2] < Number(more[2]);
    return false;
  }
  function draw() {
    const place = COLUMNS.findIndex(([key]) => key === sort);
    const value = (row) => (sort === "score" ? Math.abs(row[2]) : (row[place] ?? -1));
    const rows = circuit.rows
      .filter(matches)
      .sort(
        (one, two) => (down ? value(two) - value(one) : value(one) - value(two)) || one[0] - two[0] || one[1] - two[1],
      );
    heads.forEach((head, number) =>
      head.setAttribute("aria-sort", COLUMNS[number][0] === sort ? (down ? "descending" : "ascending") : "none"),
    );
    fill(
      body,
      rows.slice(0, 500).map((row) => {
        const name = `${row[0]}.${row[1]}`;
        const box = h("input", {
          type: "checkbox",
          checked: !off.has(name),
          "aria-label": `Neuron ${name} on`,
          onchange: (event) => {
            if (event.target.checked) off.delete(name);
            else off.add(name);
            changed();
            body.querySelector(`[data-name="${name}"] input`)?.focus();
          },
        });
        return h(
          "tr",
          { "data-name": name, class: off.has(name) ? "off" : "" },
          h("td", {}, box),
          h("td", {}, row[0]),
          h("td", {}, h("a", { href: address("look", [id, "neuron", name]) }, row[1])),
          h(
            "td",
            { class: "signed" },
            h("span", {
              class: row[2] < 0 ? "bar down" : "bar up",
              style: { "--share": `${(100 * Math.abs(row[2])) / largest}%` },
            }),
            h("span", {}, number(row[2], 4)),
          ),
          h("td", {}, number(row[3])),
          h("td", {}, row[4] === null ? "–" : percent(row[4])),
        );
      }),
    );
    fill(
      count,
      `${rows.length} of ${circuit.rows.length}${rows.length > 500 ? ", the first 500 shown" : ""}${off.size ? `; ${off.size} off in the chat` : ""}`,
    );
    save.hidden = all.hidden = !off.size;
    remember("look", [id], { sort: sort === "score" ? "" : sort, up: !down, find: wanted });
  }
  const filter = h("input", {
    type: "search",
    value: wanted,
    placeholder: "layer 29, 20-29, 29.741, > 2, off",
    "aria-label": "Filter neurons",
    oninput: (event) => {
      wanted = event.target.value;
      draw();
    },
  });
  const save = button(
    "Save without them",
    async () => {
      try {
        const found = await post("/api/circuits", {
          circuit: id,
          off: circuit.rows.filter((row) => off.has(`${row[0]}.${row[1]}`)).map((row) => [row[0], row[1]]),
          name: `${circuit.name} less ${off.size}`,
        });
        setSwitchedOff(id, []);
        toast(`Saved as ${found.id}`);
        location.hash = address("look", [found.id]);
      } catch (error) {
        toast(error.message);
      }
    },
    { class: "small" },
  );
  const all = button(
    "All on",
    () => {
      off.clear();
      changed();
    },
    { class: "small" },
  );
  draw();
  return h(
    "section",
    { class: "card" },
    h("div", { class: "row spread" }, h("h2", {}, "Neurons"), h("div", { class: "row" }, count, all, save)),
    h(
      "p",
      { class: "faint" },
      "Take the tick away and a neuron stays as it is in the chat, whatever the dial. A number opens the neuron's page.",
    ),
    filter,
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of neurons" },
      h("table", { class: "neurons" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "on"), heads)), body),
    ),
  );
}

// -------------------------------------------------------------------- one neuron

async function neuronPage(main, id, layer, index, query, state) {
  fill(main, loading());
  let sets;
  try {
    sets = await get("/api/prompt-sets");
  } catch (error) {
    fill(main, problem(error));
    return;
  }
  const chosen = sets.some((set) => set.id === query.get("set"))
    ? query.get("set")
    : sets.some((set) => set.id === id)
      ? id
      : "refusal";
  const body = h("div", { class: "stack" }, loading("The model reads the prompts …"));
  fill(
    main,
    h(
      "div",
      { class: "page wide" },
      h("p", {}, h("a", { href: address("look", [id]) }, `← ${id}`)),
      h(
        "div",
        { class: "row spread" },
        h("h1", {}, `Layer ${layer}, neuron ${index}`),
        field(
          "Contrast prompts",
          select(
            sets.map((set) => [set.id, set.title || set.id]),
            chosen,
            (value) => {
              location.hash = address("look", [id, "neuron", `${layer}.${index}`], { set: value });
            },
          ),
        ),
      ),
      body,
    ),
  );
  try {
    const job = await post("/api/neurons", { layer, index, prompts: chosen });
    if (state.gone) {
      remove(`/api/jobs/${job.id}`);
      return;
    }
    const listening = follow(
      job.id,
      () => {},
      async (over) => {
        state.stop = null;
        if (over.state !== "done") {
          fill(body, problem({ words: over.error || { problem: "It was cancelled." } }));
          return;
        }
        const found = await get(`/api/jobs/${job.id}/result`);
        if (!state.gone) drawNeuron(body, found);
      },
    );
    state.stop = () => {
      listening();
      remove(`/api/jobs/${job.id}`).catch(() => {});
    }; // nobody waits for it any more
  } catch (error) {
    fill(body, problem(error));
  }
}

// How many tokens all prompts begin with: the template, which is left out.
function shared(prompts) {
  if (prompts.length < 2) return 0;
  let length = 0;
  while (prompts.every((one) => length < Math.min(...one.read) && one.tokens[length] === prompts[0].tokens[length]))
    length += 1;
  return length;
}

function drawNeuron(body, found) {
  const prefix = shared([...found.fires.positive.prompts, ...found.fires.negative.prompts]);
  const top = Math.max(...[...found.writes, ...found.holds_down].map(([, weight]) => Math.abs(weight)), 1e-9);
  const list = (title, rows, side) =>
    h(
      "div",
      {},
      h("h3", {}, title),
      h(
        "ol",
        { class: "written" },
        rows.map(([text, weight]) =>
          h(
            "li",
            {},
            h("code", {}, visible(text)),
            h("span", { class: `bar ${side}`, style: { "--share": `${(100 * Math.abs(weight)) / top}%` } }),
            h("span", { class: "faint" }, number(weight)),
          ),
        ),
      ),
    );
  fill(
    body,
    h(
      "section",
      { class: "card" },
      h("h2", {}, "What it writes", explain("writes")),
      h(
        "div",
        { class: "grid two" },
        list("pushes up", found.writes, "up"),
        list("pushes down", found.holds_down, "down"),
      ),
    ),
    h(
      "section",
      { class: "card" },
      h("h2", {}, "Where it fires", explain("fires")),
      strip(found.fires),
      h(
        "div",
        { class: "grid two" },
        ["positive", "negative"].map((side) =>
          h(
            "div",
            {},
            h("h3", {}, `${side} prompts, mean ${number(found.fires[side].mean)} where they are read`),
            found.fires[side].prompts.map((one) =>
              h(
                "p",
                { class: "fired" },
                prefix ? h("span", { class: "faint", title: "what every prompt begins with" }, "… ") : null,
                one.tokens.map((text, place) =>
                  place < prefix ? null : fired(text, one.values[place], found.fires.largest, one.read.includes(place)),
                ),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

function fired(text, value, largest, read) {
  const share = Math.min(1, Math.abs(value) / (largest || 1));
  return h(
    "span",
    {
      class: `token ${value >= 0 ? "up" : "down"}${read ? " read" : ""}`,
      style: { "--move": `${Math.round(100 * share)}%` },
      title: `${visible(text)}: ${number(value)}${read ? ", read here" : ""}`,
    },
    text === "\n" && read ? "↵" : text,
  );
}

// Every prompt's activation where it is read, a tick each: how far the sides lie apart.
function strip(fires) {
  const values = [...fires.positive.read, ...fires.negative.read];
  const low = Math.min(0, ...values);
  const high = Math.max(0, ...values);
  const at = (value) => `${(100 * (value - low)) / (high - low || 1)}%`;
  return h(
    "div",
    {
      class: "strip",
      role: "img",
      "aria-label": `Activations: positive mean ${number(fires.positive.mean)}, negative mean ${number(fires.negative.mean)}`,
    },
    ["positive", "negative"].map((side) =>
      h(
        "div",
        { class: side },
        h("span", {}, side),
        h(
          "div",
          { class: "ticks" },
          fires[side].read.map((value) => h("i", { style: { left: at(value) } })),
          h("b", { style: { left: at(fires[side].mean) } }),
        ),
      ),
    ),
    h(
      "div",
      { class: "row spread faint" },
      h("span", {}, number(low)),
      h("span", {}, "activation where the prompt is read"),
      h("span", {}, number(high)),
    ),
  );
}

// -------------------------------------------------------------------- overlap

async function overlapPage(main, first, second, state) {
  fill(main, loading());
  try {
    const found = await get(`/api/overlap/${encodeURIComponent(first)}/${encodeURIComponent(second)}`);
    if (state.gone) return;
    const top = Math.max(1, ...found.by_layer.map((row) => Math.max(row[1], row[2])));
    fill(
      main,
      h(
        "div",
        { class: "page wide" },
        h("p", {}, h("a", { href: address("look", [first]) }, `← ${found.first.name}`)),
        h("h1", {}, `${found.first.name} and ${found.second.name}`),
        h(
          "section",
          { class: "card" },
          h(
            "p",
            {},
            h("span", { class: "big" }, found.shared),
            ` shared of ${found.first.neurons} and ${found.second.neurons} neurons`,
            explain("overlap"),
          ),
          h(
            "p",
            { class: "faint" },
            `Jaccard ${number(found.jaccard)}; by chance ${found.expected === null ? "not known" : number(found.expected)} would be shared${found.same_sign === null ? "" : `; ${percent(found.same_sign)} of them have the same sign`}`,
          ),
          h(
            "div",
            { class: "scroll", tabindex: "0", role: "region", "aria-label": "Overlap by layer" },
            h(
              "table",
              { class: "plain" },
              h(
                "thead",
                {},
                h(
                  "tr",
                  {},
                  ["layer", found.first.name, found.second.name, "both"].map((text) => h("th", { scope: "col" }, text)),
                ),
              ),
              h(
                "tbody",
                {},
                found.by_layer.map(([layer, one, two, both]) =>
                  h(
                    "tr",
                    {},
                    h("th", { scope: "row" }, layer),
                    [one, two, both].map((count) =>
                      h(
                        "td",
                        { class: "signed" },
                        h("span", { class: "bar up", style: { "--share": `${(100 * count) / top}%` } }),
                        h("span", {}, count),
                      ),
                    ),
                  ),
                ),
              ),
            ),
          ),
        ),
        found.rows.length
          ? h(
              "section",
              { class: "card" },
              h("h2", {}, "Shared neurons"),
              h(
                "div",
                { class: "scroll", tabindex: "0", role: "region", "aria-label": "Shared neurons" },
                h(
                  "table",
                  { class: "plain" },
                  h(
                    "thead",
                    {},
                    h(
                      "tr",
                      {},
                      ["layer", "neuron", "first score", "second score", "first dose", "second dose"].map((text) =>
                        h("th", { scope: "col" }, text),
                      ),
                    ),
                  ),
                  h(
                    "tbody",
                    {},
                    found.rows.map((row) =>
                      h(
                        "tr",
                        {},
                        h("td", {}, row[0]),
                        h(
                          "td",
                          {},
                          h("a", { href: address("look", [first, "neuron", `${row[0]}.${row[1]}`]) }, row[1]),
                        ),
                        row.slice(2).map((value) => h("td", {}, number(value))),
                      ),
                    ),
                  ),
                ),
              ),
            )
          : blank("Nothing is shared", "No neuron is in both circuits."),
      ),
    );
  } catch (error) {
    if (!state.gone) fill(main, problem(error));
  }
}
