// What the page may send, made from the server's own models (neurodial.studio.requests); `make docs` writes it again.
/* [[[cog
import sys

import cog

sys.path.insert(0, "scripts")
from page_types import interfaces

cog.outl("")
cog.outl(interfaces())
]]] */

/** Options that differ from the defaults: MethodOptions. */
export interface MethodOptions {
  score?: "delta" | "standardised" | "auroc";
  sign?: "both" | "positive" | "negative" | "tuned";
  position?: string;
  select?: string;
  skip_layers?: number[];
  universal?: string | null;
  universal_fraction?: number;
  universal_share?: number;
  folds?: number;
  system?: string | null;
  budget?: number | null;
  margin_target?: number | null;
  direction?: "remove" | "induce";
  x_max?: number;
  dosing?: "closed" | "uniform";
  margin?: "behaviour" | "alternatives" | "openers" | "spans" | "answer" | "own-answers";
  neutral?: string;
  passages?: number | null;
  answer_tokens?: number;
  draws?: number;
  max_degenerate?: number | null;
  max_broken?: number | null;
  fit?: number;
  seed?: number;
  candidates?: number;
  layers?: number;
}

/** Options that differ from the defaults: EvaluationOptions. */
export interface EvaluationOptions {
  answers?: boolean;
  detectors?: string[];
  max_new_tokens?: number;
  temperature?: number;
  top_p?: number;
  seed?: number;
  batch_size?: number;
  system?: string | null;
  prompts?: number | null;
  split?: "test" | "development" | null;
  neutral?: number;
  over_refusal?: number;
  divergence_tokens?: number;
  margin?: "recorded" | "behaviour" | "alternatives" | "openers" | "spans" | "answer" | "own-answers" | "none";
  perplexity?: number;
  questions?: number;
  speed?: boolean;
  thinking?: "leave-out" | "apart";
  development?: number;
  kl_limit?: number;
  max_degenerate?: number | null;
  max_broken?: number | null;
  seeds?: number[];
}

/** A circuit at a dial, some of its neurons perhaps left out. */
export interface Turned {
  id: string;
  dial?: number;
  off?: [number, number][];
}

/** One message of a chat. */
export interface ChatTurn {
  role: "user" | "assistant";
  content: string;
}

/** An answer of both sides. Each side has a chat of its own: the answers in it differ. */
export interface AnswerRequest {
  system?: string;
  temperature?: number;
  seed?: number;
  max_new_tokens?: number;
  unsteered: ChatTurn[];
  steered: ChatTurn[];
  circuits?: Turned[];
  openers?: string;
}

/** Answers to one chat with one circuit at several dials; the others stay where they are. */
export interface StripRequest {
  system?: string;
  temperature?: number;
  seed?: number;
  max_new_tokens?: number;
  chat: ChatTurn[];
  circuits: Turned[];
  moved: string;
  dials: number[];
}

/** Answers at several dials, as a conversation keeps them. */
export interface SavedStrip {
  moved: string;
  dials: number[];
  texts: string[];
}

/** A prompt with both answers, as a conversation keeps them. */
export interface SavedAnswers {
  prompt: string;
  unsteered?: string;
  steered?: string;
  strip?: SavedStrip | null;
}

/** How the answers of a conversation are drawn. */
export interface ChatSettings {
  system?: string;
  temperature?: number;
  seed?: number;
  length?: number;
  openers?: string;
}

/** A conversation to keep; with an id, in the place of the one of that id. */
export interface ConversationRequest {
  name: string;
  id?: string;
  settings?: ChatSettings;
  circuits?: Turned[];
  turns?: SavedAnswers[];
}

/** A new name. */
export interface NameRequest {
  name: string;
}

/** A file that somebody shared, to be checked and kept. */
export interface OpenRequest {
  name: string;
  text: string;
}

/** A contrast: one of the collection's sets, or two lists, or the lines of a JSONL file. */
export interface Prompts {
  set?: string;
  positive?: string[];
  negative?: string[];
  lines?: string;
  name?: string;
}

/** A contrast to look at before anything is run. */
export interface CheckRequest {
  prompts: Prompts;
  position?: string;
  system?: string;
}

/** A circuit to find. */
export interface Discovery {
  prompts: Prompts;
  name?: string;
  method?: "cna" | "cna-reference" | "dose" | "single";
  options?: MethodOptions;
}

/** Openers to find. */
export interface OpenersRequest {
  prompts: string;
}

/** A circuit to keep: one that a job found, or one of the collection less some neurons. */
export interface SaveRequest {
  name: string;
  job?: number | null;
  circuit?: string;
  off?: [number, number][];
}

/** What is explained: its circuit, the prompts that it is read on, and what is asked for beyond reading. */
export interface Explained {
  circuit: string;
  prompts: string;
  words?: boolean;
  vectors?: boolean;
  show_harmful?: boolean;
}

/** A neuron to explain: one of a circuit, or another of the model, which then stands alone. */
export interface NeuronRequest {
  circuit: string;
  prompts: string;
  words?: boolean;
  vectors?: boolean;
  show_harmful?: boolean;
  layer: number;
  index: number;
  measure?: boolean;
}

/** A circuit to explain as a whole; with a prompt, the activations at some of its tokens too, in words. */
export interface WholeRequest {
  circuit: string;
  prompts: string;
  words?: boolean;
  vectors?: boolean;
  show_harmful?: boolean;
  prompt?: string;
  at?: string;
}

/** An evaluation or a frontier. */
export interface MeasurementRequest {
  kind?: "evaluate" | "frontier";
  circuits: string[];
  prompts: string;
  dials: number[];
  against?: string[];
  options?: EvaluationOptions;
}

/** Circuits to ship. */
export interface ExportRequest {
  circuits: Turned[];
  route: string;
  name?: string;
}
// [[[end]]]
