// What the server answers with. The tests hold every answer of the server against these types (tests/studio/contract.py),
// so a field that is renamed there and not here fails.

/** An error in words: what came, what was wanted, what to do. */
export interface Words {
  kind?: string;
  problem: string;
  wanted?: string | null;
  fix?: string | null;
}

/** A refused request. */
export interface Refusal {
  error: Words;
}

export interface Model {
  label: string;
  family: string;
  widths: number[];
  /** Of each layer with routed experts: neurons of its dense MLP, and of one expert. */
  experts: ([number, number] | null)[];
  neurons: number;
  context: number | null;
  chat: boolean;
  gguf: boolean;
  adapter: boolean;
  dtype: string;
  version: string;
}

// ---------------------------------------------------------------------------------------------------------- options

/** One way to spell a value: `name:value`, or the name alone where `kind` is null. */
export interface SpelledForm {
  name: string;
  meaning: string;
  kind: "int" | "float" | null;
  example: number | null;
}

/** An option as the library declares it; `default` as a user would type it. */
export interface OptionField {
  name: string;
  label: string;
  help: string;
  kind: "bool" | "int" | "float" | "str";
  list: boolean;
  optional: boolean;
  choices: string[];
  forms: SpelledForm[];
  default: string;
}

/** A method of discovery and its options. */
export interface MethodForm {
  name: string;
  title: string;
  options: OptionField[];
}

/** Every form of options that there is. */
export interface OptionForms {
  methods: MethodForm[];
  evaluation: OptionField[];
}

// ---------------------------------------------------------------------------------------------------------- jobs

export interface Progress {
  description: string;
  done: number;
  total: number;
}

/** A step of a job: how often it was begun, its seconds in all, and the seconds that the running one still takes. */
export interface Step {
  description: string;
  done: number;
  total: number;
  times: number;
  seconds: number;
  left: number | null;
  running: boolean;
}

/** A job; `asked` is the request that it came from. */
export interface Job {
  id: number;
  kind: string;
  title: string;
  state: "queued" | "running" | "done" | "failed" | "cancelled";
  created: string;
  progress: Progress;
  steps: Step[];
  error: Words | null;
  asked: Record<string, unknown>;
}

/** One token of one answer; `p` and `top` hold probabilities, unsteered and steered; `kl` and `mean` are nats. */
export interface TokenEvent {
  event: "token";
  side: "unsteered" | "steered";
  step: number;
  text: string;
  p: [number, number];
  kl: number;
  mean: number;
  top: [string, number, number][];
  end?: boolean;
  openers?: [number, number];
}

export interface AnswerEnd {
  text: string;
  tokens: number;
  finished: boolean;
  kl: number;
}

/** Both answers, whole: the last event of an answer. */
export interface AnswersEvent {
  event: "answers";
  unsteered: AnswerEnd;
  steered: AnswerEnd;
}

/** A token of a column of a strip: an answer at one of its dials. */
export interface ColumnToken extends TokenEvent {
  column: number;
}

/** Every answer of a strip, whole: its last event. */
export interface StripEvent {
  event: "strip";
  columns: AnswerEnd[];
}

// ---------------------------------------------------------------------------------------------------- conversations

export interface ConversationEntry {
  id: string;
  name: string;
  created: string;
  model: string;
  turns: number;
}

export interface KeptStrip {
  moved: string;
  dials: number[];
  texts: string[];
}

export interface KeptTurn {
  prompt: string;
  unsteered: string;
  steered: string;
  strip: KeptStrip | null;
}

export interface KeptSettings {
  system: string;
  temperature: number;
  seed: number;
  length: number;
  openers: string;
}

export interface KeptDial {
  id: string;
  dial: number;
  off: [number, number][];
}

/** A conversation that was kept; its circuits are those that are still here. */
export interface Conversation {
  id: string;
  name: string;
  created: string;
  model: string;
  settings: KeptSettings;
  circuits: KeptDial[];
  turns: KeptTurn[];
}

/** What a file was that was opened, and under which id it is kept. */
export interface Opened {
  kind: "circuit" | "conversation" | "run";
  id: string;
  notes: string[];
}

// ---------------------------------------------------------------------------------------------------------- circuits

export interface CircuitEntry {
  id: string;
  name: string;
  direction: "remove" | "induce";
  neurons: number;
  origin: "command" | "ready" | "saved";
}

/** Layer, index, score, dose, and the share of folds that keep the neuron. */
export type CircuitRow = [number, number, number, number, number | null];

export interface Stability {
  overlaps: number[];
  mean: number;
  low: number;
}

export interface Universal {
  flagged: number | null;
  removed: [number, number][];
}

/** What a method predicted and measured, in nats. */
export interface MethodReport {
  measured: Measured;
  predicted?: Predicted;
  openers?: string[];
  coverage?: unknown;
  goal?: unknown;
}

export interface Measured extends Record<string, number> {
  margin_before: number;
  margin: number;
  divergence: number;
}

export interface Predicted extends Record<string, number> {
  divergence_diagonal: number;
}

export interface Circuit {
  id: string;
  name: string;
  direction: "remove" | "induce";
  neurons: number;
  share: number | null;
  rows: CircuitRow[];
  layers: number[];
  stability: Stability | null;
  model: string | null;
  method: Record<string, string | number | boolean | null>;
  prompts: Record<string, unknown>;
  universal: Universal | null;
  report: MethodReport | null;
  created: string;
  versions: Record<string, string>;
}

/** A layer's neurons, or an expert's, by falling absolute score; the arrays are base64 of little-endian uint32 and float32. */
export interface PackedLayer {
  layer: number;
  expert?: number | null;
  width: number;
  index: string;
  score: string;
}

export interface Histogram {
  low: number;
  high: number;
  counts: number[];
  chosen: number[];
}

/** All scores. `chosen` and `removed` hold layer and rank, and the expert where there is one. */
export interface Scores {
  neurons: number;
  largest: number;
  layers: PackedLayer[];
  chosen: number[][];
  removed: number[][];
  cutoff: number | null;
  histogram: Histogram;
}

/** A circuit with the scores that it was chosen from, where they were kept. */
export interface CircuitPage {
  circuit: Circuit;
  scores: Scores | null;
}

/** What a discovery found, not yet saved. */
export interface Discovered {
  circuit: Circuit;
  scores: Scores;
}

export interface Saved {
  id: string;
}

export interface Named {
  name: string;
  neurons: number;
}

/** What two circuits share. By layer: layer, neurons of the first, of the second, of both. */
export interface Overlap {
  first: Named;
  second: Named;
  shared: number;
  jaccard: number;
  expected: number | null;
  same_sign: number | null;
  by_layer: [number, number, number, number][];
  rows: [number, number, number, number, number, number][];
}

/** Several circuits' doses. Rows: layer, index, the dose in each circuit. */
export interface Doses {
  circuits: DosedCircuit[];
  widths: number[];
  rows: [number, number, (number | null)[]][];
}

export interface DosedCircuit {
  id: string;
  name: string;
  direction: "remove" | "induce";
  neurons: number;
}

// ---------------------------------------------------------------------------------------------------------- prompts

export interface PromptSet {
  id: string;
  title: string;
  description: string;
  own: boolean;
}

/** Openers by their source: a prompt set, or `circuit:ID`. */
export type OpenersBySource = Record<string, string[]>;

/** A prompt as the texts of its tokens, and the places that are read. */
export interface Spelled {
  tokens: string[];
  read: number[];
}

export interface CheckedPrompts {
  counts: Record<string, [number, number] | null>;
  margin: string;
  examples: CheckedExamples;
  notes: string[];
}

export interface CheckedExamples {
  positive: Spelled[];
  negative: Spelled[];
}

// ---------------------------------------------------------------------------------------------------------- neurons

/** What the studio says beside a neuron's page; `hidden`: words of harmful prompts are left out. */
export interface ExplainedView {
  in_circuit: boolean;
  measured: boolean;
  worded: boolean;
  /** Whether vectors stand there in the words of the pair of models. */
  vectors: boolean;
  speaker: string;
  /** The pair of models that puts vectors into words; empty for none. */
  pair: string;
  hidden: boolean;
}

// ---------------------------------------------------------------------------------------------------------- reports

export interface ReportEntry {
  id: string;
  name: string;
  parts: string[];
}

export interface Estimate {
  value: number | null;
  low: number | null;
  high: number | null;
  n: number;
  method: string;
}

export interface Metric {
  title: string;
  explanation: string;
  is_share: boolean;
}

export interface Condition {
  label: string;
  dial: number;
  metrics: Record<string, Estimate>;
  differences: Record<string, unknown>;
}

/** A method's frontier in one number each. */
export interface Figure {
  label: string;
  area: number;
  left: number;
  points: [number, number][];
}

export interface ReportView {
  id: string;
  name: string;
  part: string;
  behaviour: string;
  headline: string;
  created: string;
  model: string;
  metrics: Record<string, Metric>;
  conditions: Condition[];
  notes: string[];
  figures: Figure[] | null;
}

/** A number of a condition that two runs share; `clear`: the difference is beyond chance. */
export interface ComparedNumber {
  label: string;
  dial: number;
  metric: string;
  first: Estimate | null;
  second: Estimate | null;
  difference: Estimate | null;
  clear: boolean;
}

/** Two runs against each other. Changes: place, first, second. */
export interface Comparison {
  names: [string, string];
  summary: string;
  verdicts: [string, string];
  metrics: Record<string, Metric>;
  numbers: ComparedNumber[];
  same_prompts: boolean;
  alone: Record<string, string[]>;
  changes: [string, string, string][];
}

/** What a measurement came to. */
export interface Reported {
  report: string;
}

// ---------------------------------------------------------------------------------------------------------- exports

/** One comparison of exported files with the circuit in the model; differences are nats. */
export interface EngineComparison {
  engine: string;
  strength: number;
  prompts: number;
  places: number;
  difference: number;
  kl: number;
  effect: number;
  effect_kl: number;
  same_top: number;
  tolerance: number;
  agrees: boolean;
}

export interface Proof {
  precision: string;
  unit: string;
  comparisons: EngineComparison[];
}

export interface EngineNote {
  engine: string;
  can: boolean;
  how: string;
}

export interface AdapterInfo extends Record<string, unknown> {
  how: string;
}

/** Files are pairs of a name and a size in bytes. */
export interface ExportView {
  id: string;
  folder: string;
  route: string;
  strength: number;
  one_dial: boolean;
  rank: number;
  created: string;
  base: string;
  adapter: AdapterInfo | null;
  circuits: Record<string, unknown>[];
  engines: EngineNote[];
  proof: Proof;
  files: [string, number][];
}

/** A form that a circuit leaves in. */
export interface ExportFormat {
  name: string;
  title: string;
  summary: string;
}

/** What an export came to. */
export interface Exported {
  export: string;
}
