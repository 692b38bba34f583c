// What each number means, in the words of the page's “?” buttons.

/** @type {Record<string, [title: string, text: string]>} */
export const WORDS = {
  kl_so_far: [
    "KL so far",
    "KL(unsteered || steered): how far the steered model's predictions are from the unsteered model's, in " +
      "nats, averaged over the tokens of the unsteered answer so far. 0 is no change; a budget of 0.05 is a " +
      "light touch. The same definition as in every report, there on neutral prompts.",
  ],
  openers: [
    "Share of the first token",
    "How much of the first token's probability goes to tokens that begin the behaviour's usual answers (its " +
      "openers, found in the model's own answers). It is known after one forward pass, before a word is " +
      "written.",
  ],
  score: [
    "Score",
    "What the neuron was chosen by. For CNA, the difference of its mean activation between the two sides of " +
      "the contrast (or that difference standardised, or AUROC less one half); for dose, effect squared over " +
      "cost.",
  ],
  dose: [
    "Dose",
    "How far dial 1 turns this neuron: it is multiplied by 1 − dial × dose. 1 switches it off at dial 1; more" +
      " than 1 turns its sign.",
  ],
  doses_map: [
    "Doses on the map",
    "Each row is a layer, each column a place in it by index. A row has a lane for each circuit, so marks of one " +
      "neuron stand above each other. A mark is as tall as the dose; a hollow one has a negative dose: dial 1 turns " +
      "it up.",
  ],
  kept: [
    "Kept in folds",
    "Of the folds of the prompts, the share without which the neuron is chosen all the same. 100 %: it " +
      "depends on no single prompts.",
  ],
  stability: [
    "Stability",
    "The share of the circuit that is chosen again when one fold of the discovery prompts is left out; the " +
      "mean over the folds, and the lowest.",
  ],
  universal: [
    "Universal neurons",
    "Neurons among the 0.1 % most active on at least 80 % of a list of diverse prompts. They say nothing " +
      "about a behaviour, so they are left out before the choice; these would have been in the circuit " +
      "otherwise.",
  ],
  cutoff: [
    "Cut-off",
    "The smallest absolute score that is still in the circuit. Neurons outside the lines were chosen, less " +
      "the universal ones.",
  ],
  rank: [
    "Layer by rank",
    "Each column of a row is one neuron: the row is its layer, and in a row neurons stand in the order of " +
      "their absolute score, the largest at the left.",
  ],
  overlap: [
    "Overlap",
    "Neurons of both circuits over neurons of either (Jaccard), against the number that two random circuits " +
      "of these sizes would share.",
  ],
  difference: [
    "Files against hook",
    "The largest difference, over all places and tokens of the checked prompts, between the log-probabilities" +
      " of the exported files and those of the circuit in the model. It must be within what rounding explains, " +
      "and at most a quarter of the circuit's own effect.",
  ],
  area: [
    "Area",
    "Behaviour left (relative to the unsteered model), averaged over damage from 0 to 0.1 nats per token: " +
      "lower is better.",
  ],
};
