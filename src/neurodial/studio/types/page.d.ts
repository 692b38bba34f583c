// What the page's modules hand to each other.
import type { Discovery } from "./requests.d.ts";
import type { Job, Model, Words } from "./views.d.ts";

/** What may stand in an element: text becomes text nodes; null, undefined and false are nothing. */
export type Child = Node | string | number | null | undefined | false | Child[];

type Handler<Happening, On> = (event: Happening & { currentTarget: On }) => unknown;

/** Attributes of an element of type `On`, and what it does when something happens to it. */
export interface Properties<On extends Element> {
  class?: string;
  style?: Record<string, string>;
  onclick?: Handler<MouseEvent, On>;
  onchange?: Handler<Event, On>;
  oninput?: Handler<Event, On>;
  onsubmit?: Handler<SubmitEvent, On>;
  ontoggle?: Handler<Event, On>;
  [attribute: string]: unknown;
}

/** A choice of a select: its value and its text. */
export type Option = [string, string];

/** Where the page is: what follows the view in its address, and the model that it is about. */
export interface Place {
  rest: string[];
  query: URLSearchParams;
  model: Model;
}

/** Shows a view in an element; gives a function that leaves it. */
export type Show = (main: HTMLElement, place: Place) => () => void;

/** A neuron, as its layer and its index in the layer. */
export type Neuron = [number, number];

/** A circuit on the steered side of the chat. */
export interface Dialled {
  id: string;
  value: number;
}

/** Settings of the chat. */
export interface ChatOptions extends Record<string, string | number> {
  system: string;
  temperature: number;
  seed: number;
  length: number;
  openers: string;
  strip: string;
  moved: string;
}

/** A turn of the chat as this browser keeps it. */
export interface SavedTurn {
  job: number | null;
  prompt?: string;
  unsteered?: string;
  steered?: string;
  strip?: SavedStrip | null;
}

/** Answers at several dials as this browser keeps them; `job` where the server may still know it. */
export interface SavedStrip {
  job?: number | null;
  moved: string;
  dials: number[];
  texts: string[];
}

/** What a conversation is called, and its id where it is kept. */
export interface Called {
  id: string;
  name: string;
}

/** How a job that is watched went on. `forgotten`: the server does not know it any more. */
export interface Watcher {
  onprogress: (job: Job) => void;
  ondone: (job: Job) => void;
  onfail: (words: Words & { forgotten?: boolean }) => void;
  oncancel: () => void;
}

/** A layer's neurons by falling absolute score, as arrays. */
export interface LayerScores {
  layer: number;
  expert: number | null;
  width: number;
  index: Uint32Array;
  score: Float32Array;
}

/** The scores of every neuron as the map draws them; `chosen` and `removed` hold layer and rank, and the expert. */
export interface MapScores {
  neurons: number;
  largest: number;
  layers: LayerScores[];
  chosen: number[][];
  removed: number[][];
}

/** A cell of the map: which row, and which rank in it. */
export interface Cell {
  row: number;
  rank: number;
}

/** A value of an option, as a request takes it. */
export type GivenValue = string | number | boolean | null | (string | number)[];

/** Options that differ from their defaults, by name. */
export type Given = Record<string, GivenValue>;

/** What the discover form holds; the options are those of each method. */
export interface DiscoverForm {
  source: string;
  positive: string;
  negative: string;
  lines: string;
  as: string;
  method: NonNullable<Discovery["method"]>;
  name: string;
  given: Record<string, Given>;
}

/** What the measure form holds. */
export interface MeasureForm {
  kind: "evaluate" | "frontier";
  circuits: string[];
  prompts: string;
  dials: string;
  against: string[];
  given: Given;
}
