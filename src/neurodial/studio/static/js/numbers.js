// Numbers and tokens as a reader takes them in.

/** @param {number} share @param {number} [digits] */
export const percent = (share, digits = 0) => `${(100 * share).toFixed(share > 0 && share < 0.01 ? 2 : digits)} %`;

/**
 * A number with as many digits as say something; a dash for none.
 * @param {number | null | undefined} value
 * @param {number} [digits]
 */
export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) {
    return "–";
  }
  if (value === 0) {
    return "0";
  }
  const size = Math.abs(value);
  if (size < 0.0005 || size >= 1e6) {
    return value.toExponential(1).replace("e+", "e");
  }
  return String(Number(value.toPrecision(digits)));
}

/** @param {number} count */
export const grouped = (count) => count.toLocaleString("en");

/** @param {number} size in bytes */
export function bytes(size) {
  if (size > 1e6) {
    return `${number(size / 1e6)} MB`;
  }
  return size > 1e3 ? `${number(size / 1e3)} kB` : `${size} B`;
}

/**
 * The numbers of a text with commas between them; null where a part is no number. A comma at the end is no part.
 * @param {string} text
 */
export function numbersIn(text) {
  const parts = text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);
  const values = parts.map(Number);
  return values.every(Number.isFinite) ? values : null;
}

/** Seconds as a person says them. @param {number} seconds */
export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  const rest = whole % 60 ? ` ${whole % 60} s` : "";
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min${rest}`;
}

/**
 * A value within limits.
 * @param {number} value @param {number} low @param {number} high
 */
export const within = (value, low, high) => Math.max(low, Math.min(high, value));

/**
 * A token's text with its spaces and line ends seen.
 * @param {string} text
 */
export const visible = (text) => text.replaceAll("\n", "↵").replaceAll(" ", "·") || "∅";
