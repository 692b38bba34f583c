// What the page may send, made from the server's own models (neurodial.studio.requests); `make docs` writes it again.
/* [[[cog
import sys

import cog

sys.path.insert(0, "scripts")
from page_types import interfaces

cog.outl("")
cog.outl(interfaces())
]]] */

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
  unsteered: ChatTurn[];
  steered: ChatTurn[];
  circuits?: Turned[];
  system?: string;
  temperature?: number;
  seed?: number;
  max_new_tokens?: number;
  openers?: string;
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
  method?: "cna" | "cna-reference" | "dose";
  fraction?: number | null;
  count?: number | null;
  score?: "delta" | "standardised" | "auroc" | null;
  sign?: "both" | "positive" | "negative" | "tuned" | null;
  position?: string | null;
  universal?: boolean;
  skip_layers?: number[];
  budget?: number | null;
  direction?: "remove" | "induce" | null;
  x_max?: number | null;
  margin?: "behaviour" | "alternatives" | "openers" | "answer" | "own-answers" | null;
  max_degenerate?: number | null;
  system?: string;
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

/** A neuron to read. */
export interface NeuronRequest {
  layer: number;
  index: number;
  prompts: string;
}

/** An evaluation or a frontier. */
export interface MeasurementRequest {
  kind?: "evaluate" | "frontier";
  circuits: string[];
  prompts: string;
  dials: number[];
  against?: string[];
  limit?: number;
  neutral?: number;
  over_refusal?: number;
  perplexity?: number;
  questions?: number;
  max_new_tokens?: number;
}

/** Circuits to ship. */
export interface ExportRequest {
  circuits: Turned[];
  route: string;
  name?: string;
}
// [[[end]]]
