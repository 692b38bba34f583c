"""What is known of a circuit and its neurons, as plain values: for the page, the studio and programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from neurodial.circuit.site import OfOneNeuron
from neurodial.explain.dial_effects import CircuitEffects, Effect
from neurodial.explain.judged_words import JudgedWords
from neurodial.explain.likeness import Neighbour
from neurodial.nla.vector_words import VectorWords
from neurodial.tracing.neuron import WrittenToken

NO_DIAL = "no dial was turned: margins, damage and shares of groups are not measured"
"""The note of an explanation that only reads."""


@dataclass(frozen=True)
class Snippet:
    """A place of a text, with what stands around it.

    Attributes:
        side: of the behaviour.
        text: number of the text in the corpus.
        tokens: the tokens as text; words of harmful prompts are left out.
        values: the activation at each.
        at: which of them is meant.
    """

    side: str
    text: int
    tokens: tuple[str, ...]
    values: tuple[float, ...]
    at: int


@dataclass(frozen=True)
class Firing:
    """Where something fires over the corpus.

    Attributes:
        strongest: largest first, one of a text.
        middle: from the first to the third quarter of a fair sample.
        weakest: smallest first.
        edges: of the histogram's bins, at the last token of each text.
        counts: texts of each side in each bin: positive, negative, other.
        auroc: how well the last token tells the sides apart, 0.5 for not at all; None without both sides.
        auroc_error: the most that binning may have moved it.
    """

    strongest: tuple[Snippet, ...]
    middle: tuple[Snippet, ...]
    weakest: tuple[Snippet, ...]
    edges: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]
    auroc: float | None
    auroc_error: float | None


@dataclass(frozen=True)
class NeuronExplanation(OfOneNeuron):
    """What is known of one neuron.

    Attributes:
        layer: its block.
        index: in its layer, or in its expert.
        score: of the circuit.
        dose: of the circuit.
        group: which group of like neurons it belongs to.
        writes: tokens that a unit of its activation promotes most.
        holds_down: tokens that it holds down most.
        reads: tokens that its gate and up rows answer to most.
        firing: where it fires.
        correlated: neurons that vary with it.
        alike: neurons that write what it writes.
        effect: what its dial alone does; None where that was not measured.
        words: what a model said of it, with the score of that.
        expert: the routed expert that it is in, or None.
    """

    layer: int
    index: int
    score: float
    dose: float
    group: int
    writes: tuple[WrittenToken, ...]
    holds_down: tuple[WrittenToken, ...]
    reads: dict[str, tuple[WrittenToken, ...]]
    firing: Firing
    correlated: tuple[Neighbour, ...]
    alike: tuple[Neighbour, ...]
    effect: Effect | None = None
    words: JudgedWords | None = None
    expert: int | None = None

    @property
    def name(self) -> str:
        """Its place in words."""
        expert = "" if self.expert is None else f"expert {self.expert}, "
        return f"layer {self.layer}, {expert}neuron {self.index}"


@dataclass(frozen=True)
class AnswerCourse:
    """How strongly the circuit acts along the model's own answers.

    Attributes:
        side: of the prompts.
        answers: how many.
        drive: mean drive at the last token of the prompt, then at each token of the answer.
        counts: how many answers are that long.
    """

    side: str
    answers: int
    drive: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class CircuitExplanation:
    """What is known of a circuit.

    Attributes:
        name: of the circuit.
        model: its label.
        direction: what dial 1 does to the behaviour.
        size: number of neurons.
        corpus: where the texts are from.
        texts: how many there are of each side.
        tokens: how many tokens.
        passes: tokens that went through the model to watch the corpus, over tokens of the corpus.
        writes: tokens that the circuit's direction promotes most.
        holds_down: tokens that it holds down most.
        firing: where the circuit drives along its direction.
        course: when in an answer it acts.
        groups: of like neurons: (layer, index) of each, or (layer, expert, index).
        effects: what it does, its neurons alone and its groups; None where that was not measured.
        neurons: those with a part of their own.
        words: what a model said of the circuit's direction.
        notes: what was left out, and why.
        vectors: the circuit's vectors in the words of a natural-language autoencoder, with scores.
    """

    name: str
    model: str
    direction: str
    size: int
    corpus: str
    texts: dict[str, int]
    tokens: int
    passes: float
    writes: tuple[WrittenToken, ...]
    holds_down: tuple[WrittenToken, ...]
    firing: Firing
    course: tuple[AnswerCourse, ...]
    groups: tuple[tuple[tuple[int, ...], ...], ...]
    effects: CircuitEffects | None
    neurons: tuple[NeuronExplanation, ...]
    words: JudgedWords | None
    notes: tuple[str, ...]
    vectors: tuple[VectorWords, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {"format": "neurodial.explanation", "version": 1, **_plain(asdict(self))}


def _plain(value: Any) -> Any:
    """Named tuples as objects, tuples as lists, numbers at six digits."""
    if isinstance(value, WrittenToken):
        return {name: _plain(field) for name, field in value._asdict().items()}
    if isinstance(value, dict):
        return {str(key): _plain(field) for key, field in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(field) for field in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
