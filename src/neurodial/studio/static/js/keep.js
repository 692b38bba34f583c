// What this browser remembers between visits.

export function recall(key, otherwise) {
  try {
    const text = localStorage.getItem(`neurodial.${key}`);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

export function keep(key, value) {
  try {
    localStorage.setItem(`neurodial.${key}`, JSON.stringify(value));
  } catch {
    /* a private window: nothing is kept */
  }
}

// Neurons that are switched off, by circuit: shared by Look and Chat.
const off = recall("off", {});
export const switchedOff = (circuit) => off[circuit] || [];
export function setSwitchedOff(circuit, neurons) {
  if (neurons.length) off[circuit] = neurons;
  else delete off[circuit];
  keep("off", off);
}
