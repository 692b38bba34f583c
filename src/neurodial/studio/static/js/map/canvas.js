// Canvases that are as sharp as the screen, and drawn again when their box or the theme changes.

export const LEFT = 34; // pixels for the labels at the left of every drawing
export const FONT = "11px system-ui, sans-serif";

/** @param {string} name of a custom property of the page */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

export const pixelRatio = () => Math.min(3, devicePixelRatio || 1);

/**
 * An empty drawing of a size in page pixels.
 * @param {HTMLCanvasElement} canvas @param {number} width @param {number} height
 */
export function blankDrawing(canvas, width, height) {
  const ratio = pixelRatio();
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const ink = drawing(canvas);
  ink.scale(ratio, ratio);
  ink.clearRect(0, 0, width, height);
  return ink;
}

/** @param {HTMLCanvasElement} canvas */
function drawing(canvas) {
  const ink = canvas.getContext("2d");
  if (!ink) {
    throw new Error("This browser gives no canvas to draw on.");
  }
  return ink;
}

/**
 * @param {HTMLElement} box
 * @param {HTMLCanvasElement} canvas
 * @param {() => void} draw
 */
export function redrawn(box, canvas, draw) {
  new ResizeObserver(draw).observe(box);
  const onTheme = () => {
    if (canvas.isConnected) {
      draw();
    } else {
      removeEventListener("themechange", onTheme);
    }
  };
  addEventListener("themechange", onTheme);
}
