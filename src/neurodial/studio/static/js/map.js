// Layer by rank: every neuron of the model as one cell, strongest first in its layer. Drawn once into an image, so
// that hovering over 50,000 neurons only moves a frame.
import { fill, h, number } from "./dom.js";

const decode = (text, kind) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new kind(bytes.buffer);
};

export function unpack(scores) {
  return {
    ...scores,
    layers: scores.layers.map((one) => ({
      ...one,
      index: decode(one.index, Uint32Array),
      score: decode(one.score, Float32Array),
    })),
  };
}

const LEFT = 34;
const BOTTOM = 22;

// scores: unpacked. onpick(layer, index): a neuron was chosen with a click or Enter.
export function drawMap(scores, onpick) {
  const rows = scores.layers.length;
  const columns = Math.max(...scores.layers.map((one) => one.index.length));
  const chosen = new Set(scores.chosen.map(([layer, rank]) => `${layer}:${rank}`));
  const removed = new Set(scores.removed.map(([layer, rank]) => `${layer}:${rank}`));
  const canvas = h("canvas", {
    class: "map",
    tabindex: "0",
    role: "application",
    "aria-label": `Map of ${scores.neurons.toLocaleString("en")} neurons: ${rows} layers by rank; ${chosen.size} are in the circuit. Walk with the arrow keys, Enter opens a neuron.`,
  });
  const frame = h("div", { class: "map-frame", hidden: true });
  const says = h("output", { class: "map-says" }, "Point at a neuron");
  const zoom = h(
    "select",
    { "aria-label": "Ranks shown", class: "map-zoom" },
    [64, 256, columns]
      .filter((value, place, all) => value <= columns && all.indexOf(value) === place)
      .map((value) => h("option", { value }, value === columns ? `all ${value} ranks` : `first ${value} ranks`)),
  );
  const box = h("div", { class: "map-box" }, canvas, frame);
  const element = h(
    "figure",
    { class: "map-figure" },
    h("div", { class: "row spread" }, says, zoom),
    box,
    h(
      "figcaption",
      { class: "row faint" },
      key("strong", "+ score"),
      key("weak", "− score"),
      key("ring", "in the circuit"),
      key("cross", "universal, removed"),
    ),
  );
  const last = Math.max(0, ...[...scores.chosen, ...scores.removed].map(([, rank]) => rank));
  let shown = last < 64 && columns > 64 ? 64 : last < 256 && columns > 256 ? 256 : columns;
  let size = { width: 0, height: 0, cell: 1, row: 8 };
  let at = null;

  function key(kind, text) {
    return h("span", { class: "key" }, h("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), text);
  }

  function draw() {
    const width = box.clientWidth;
    if (!width) return;
    const row = Math.max(6, Math.min(22, Math.floor(440 / rows)));
    const height = rows * row + BOTTOM;
    const ratio = Math.min(3, devicePixelRatio || 1);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = `${height}px`;
    size = { width, height, cell: (width - LEFT) / shown, row };
    const ink = canvas.getContext("2d");
    ink.scale(ratio, ratio);
    ink.clearRect(0, 0, width, height);
    paint(ink, ratio);
    marks(ink);
    axes(ink);
    point(at);
  }

  // The cells as one image at the canvas's own resolution: the strongest neuron under each pixel decides its colour.
  function paint(ink, ratio) {
    const style = getComputedStyle(document.documentElement);
    const [up, down, paper] = ["--up", "--down", "--sunk"].map((name) => rgb(style.getPropertyValue(name)));
    const across = Math.round((size.width - LEFT) * ratio);
    const high = Math.max(1, Math.round(size.row * ratio) - 1);
    const full = Math.round(size.row * ratio);
    const image = ink.createImageData(across, full * rows);
    const words = new Uint32Array(image.data.buffer);
    const largest = scores.largest || 1;
    scores.layers.forEach((layer, place) => {
      const line = new Uint32Array(across);
      for (let x = 0; x < across; x += 1) {
        const rank = Math.floor((x / across) * shown);
        if (rank >= layer.score.length) continue;
        const value = layer.score[rank];
        const strength = Math.sqrt(Math.min(1, Math.abs(value) / largest));
        const hue = value >= 0 ? up : down;
        line[x] =
          (255 << 24) |
          (mix(paper[2], hue[2], strength) << 16) |
          (mix(paper[1], hue[1], strength) << 8) |
          mix(paper[0], hue[0], strength);
      }
      for (let y = 0; y < high; y += 1) words.set(line, (place * full + y) * across);
    });
    const buffer = new OffscreenCanvas(across, full * rows);
    buffer.getContext("2d").putImageData(image, 0, 0);
    ink.imageSmoothingEnabled = false;
    ink.drawImage(buffer, LEFT, 0, size.width - LEFT, size.row * rows);
  }

  function marks(ink) {
    const style = getComputedStyle(document.documentElement);
    ink.strokeStyle = ink.fillStyle = style.getPropertyValue("--ink");
    ink.lineWidth = 1.2;
    scores.layers.forEach((layer, place) => {
      for (let rank = 0; rank < Math.min(shown, layer.index.length); rank += 1) {
        const name = `${layer.layer}:${rank}`;
        const x = LEFT + rank * size.cell;
        const y = place * size.row;
        const wide = Math.max(3, size.cell);
        if (chosen.has(name) && size.cell < 5) ink.fillRect(x, y + size.row - 4, wide, 3);
        else if (chosen.has(name)) ink.strokeRect(x + 0.5, y + 0.5, wide - 1, size.row - 2);
        else if (removed.has(name)) {
          ink.beginPath();
          ink.moveTo(x + 1, y + 1);
          ink.lineTo(x + Math.min(wide, size.row) - 1, y + size.row - 2);
          ink.moveTo(x + Math.min(wide, size.row) - 1, y + 1);
          ink.lineTo(x + 1, y + size.row - 2);
          ink.stroke();
        }
      }
    });
  }

  function axes(ink) {
    const style = getComputedStyle(document.documentElement);
    ink.fillStyle = style.getPropertyValue("--faint");
    ink.font = "11px system-ui, sans-serif";
    ink.textAlign = "right";
    ink.textBaseline = "middle";
    const every = Math.ceil(14 / size.row);
    scores.layers.forEach((layer, place) => {
      if (place % every === 0) ink.fillText(String(layer.layer), LEFT - 6, (place + 0.5) * size.row);
    });
    ink.textBaseline = "bottom";
    for (let part = 0; part <= 4; part += 1) {
      const rank = Math.round((part / 4) * shown);
      ink.textAlign = part === 0 ? "left" : part === 4 ? "right" : "center";
      ink.fillText(part === 0 ? "rank 1" : String(rank), LEFT + (part / 4) * (size.width - LEFT), size.height - 2);
    }
  }

  function point(cell) {
    at = cell;
    frame.hidden = !cell;
    if (!cell) {
      says.textContent = "Point at a neuron";
      return;
    }
    const layer = scores.layers[cell.row];
    const index = layer.index[cell.rank];
    const name = `${layer.layer}:${cell.rank}`;
    const wide = Math.max(5, size.cell);
    frame.style.transform = `translate(${LEFT + cell.rank * size.cell - 1}px, ${cell.row * size.row - 1}px)`;
    frame.style.width = `${wide + 1}px`;
    frame.style.height = `${size.row + 1}px`;
    const state = chosen.has(name) ? " · in the circuit" : removed.has(name) ? " · universal, removed" : "";
    says.textContent = `layer ${layer.layer} · neuron ${index} · rank ${cell.rank + 1} · score ${number(layer.score[cell.rank], 4)}${state}`;
  }

  function under(event) {
    const edge = canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - edge.top) / size.row);
    const rank = Math.floor((event.clientX - edge.left - LEFT) / size.cell);
    if (row < 0 || row >= rows || rank < 0 || rank >= scores.layers[row].index.length) return null;
    return { row, rank };
  }

  function pick(cell) {
    if (cell && onpick) onpick(scores.layers[cell.row].layer, scores.layers[cell.row].index[cell.rank]);
  }

  let pending = null;
  canvas.addEventListener("pointermove", (event) => {
    if (!pending)
      requestAnimationFrame(() => {
        point(under(pending));
        pending = null;
      });
    pending = event;
  });
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("click", (event) => pick(under(event)));
  canvas.addEventListener("keydown", (event) => {
    const moves = {
      ArrowRight: [0, 1],
      ArrowLeft: [0, -1],
      ArrowDown: [1, 0],
      ArrowUp: [-1, 0],
      Home: [0, -1e6],
      End: [0, 1e6],
    };
    if (event.key === "Enter") {
      pick(at);
      return;
    }
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [down, right] = moves[event.key];
    const row = at ? Math.max(0, Math.min(rows - 1, at.row + down)) : 0;
    point({
      row,
      rank: at ? Math.max(0, Math.min(Math.min(shown, scores.layers[row].index.length) - 1, at.rank + right)) : 0,
    });
  });
  zoom.addEventListener("change", () => {
    shown = Number(zoom.value);
    draw();
  });
  zoom.value = String(shown);
  new ResizeObserver(draw).observe(box);
  const watch = () => {
    if (canvas.isConnected) draw();
    else removeEventListener("themechange", watch);
  };
  addEventListener("themechange", watch);
  return element;
}

const mix = (from, to, share) => Math.round(from + (to - from) * share);

function rgb(text) {
  const digits = text.trim().replace("#", "");
  const value = parseInt(digits.length === 3 ? [...digits].map((one) => one + one).join("") : digits, 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

// Counts of scores on a logarithmic axis, the chosen ones marked, with the cut-off.
export function drawHistogram({ low, high, counts, chosen }, cutoff) {
  const canvas = h("canvas", {
    class: "histogram",
    role: "img",
    "aria-label": `Distribution of scores from ${number(low)} to ${number(high)}; the cut-off is ${number(cutoff)}`,
  });
  const says = h("output", { class: "map-says" }, `cut-off at ± ${number(cutoff, 4)}`);
  const box = h("div", {}, canvas);
  const HIGH = 170;
  function draw() {
    const width = box.clientWidth;
    if (!width) return;
    const ratio = Math.min(3, devicePixelRatio || 1);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HIGH * ratio);
    canvas.style.height = `${HIGH}px`;
    const ink = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name);
    ink.scale(ratio, ratio);
    const top = Math.log10(Math.max(...counts) + 1);
    const floor = HIGH - 20;
    const tall = (count) => (Math.log10(count + 1) / top) * (floor - 8);
    const wide = (width - LEFT) / counts.length;
    counts.forEach((count, place) => {
      const x = LEFT + place * wide;
      ink.fillStyle = colour("--line");
      ink.fillRect(x, floor - tall(count), wide - 1, tall(count));
      ink.fillStyle = colour("--steered");
      ink.fillRect(x, floor - tall(chosen[place]), wide - 1, tall(chosen[place]));
    });
    const where = (value) => LEFT + ((value - low) / (high - low)) * (width - LEFT);
    ink.strokeStyle = colour("--ink");
    ink.setLineDash([3, 3]);
    for (const line of [-cutoff, cutoff])
      if (cutoff !== null && line >= low && line <= high) {
        ink.beginPath();
        ink.moveTo(where(line), 0);
        ink.lineTo(where(line), floor);
        ink.stroke();
      }
    ink.fillStyle = colour("--faint");
    ink.font = "11px system-ui, sans-serif";
    ink.textAlign = "right";
    for (let power = 0; 10 ** power <= 10 ** top; power += 1)
      ink.fillText(String(10 ** power), LEFT - 5, floor - tall(10 ** power) + 4);
    ink.textAlign = "left";
    ink.fillText(number(low), LEFT, HIGH - 5);
    ink.textAlign = "right";
    ink.fillText(number(high), width - 1, HIGH - 5);
    if (low < 0 && high > 0) {
      ink.textAlign = "center";
      ink.fillText("0", where(0), HIGH - 5);
    }
  }
  canvas.addEventListener("pointermove", (event) => {
    const edge = canvas.getBoundingClientRect();
    const place = Math.floor(((event.clientX - edge.left - LEFT) / (edge.width - LEFT)) * counts.length);
    if (place < 0 || place >= counts.length) return;
    const step = (high - low) / counts.length;
    says.textContent = `${number(low + place * step)} to ${number(low + (place + 1) * step)}: ${counts[place].toLocaleString("en")} neurons, ${chosen[place]} chosen`;
  });
  canvas.addEventListener("pointerleave", () => {
    says.textContent = `cut-off at ± ${number(cutoff, 4)}`;
  });
  new ResizeObserver(draw).observe(box);
  const watch = () => {
    if (canvas.isConnected) draw();
    else removeEventListener("themechange", watch);
  };
  addEventListener("themechange", watch);
  return h(
    "figure",
    { class: "map-figure" },
    says,
    box,
    h(
      "figcaption",
      { class: "row faint" },
      h("span", { class: "key" }, h("span", { class: "swatch all" }), "all neurons"),
      h("span", { class: "key" }, h("span", { class: "swatch chosen" }), "in the circuit"),
      h("span", {}, "neurons on a logarithmic axis"),
    ),
  );
}

// How many neurons of a circuit lie in each layer.
export function layerBars(counts) {
  const top = Math.max(1, ...counts);
  return h(
    "div",
    {
      class: "layers",
      role: "img",
      "aria-label": `Neurons by layer: ${counts
        .map((count, layer) => (count ? `layer ${layer} ${count}` : ""))
        .filter(Boolean)
        .join(", ")}`,
    },
    counts.map((count, layer) =>
      h(
        "span",
        { title: `layer ${layer}: ${count}` },
        h("i", { style: { height: `${(100 * count) / top}%` } }),
        layer % Math.ceil(counts.length / 10) === 0 ? h("b", {}, layer) : null,
      ),
    ),
  );
}

export function folds(stability) {
  return h(
    "div",
    {
      class: "folds",
      role: "img",
      "aria-label": `Overlap without each fold: ${stability.overlaps.map((one) => `${Math.round(100 * one)} %`).join(", ")}`,
    },
    stability.overlaps.map((one, place) =>
      h(
        "span",
        { title: `without fold ${place + 1}: ${Math.round(100 * one)} % chosen again` },
        h("i", { style: { height: `${100 * one}%` } }),
      ),
    ),
  );
}
