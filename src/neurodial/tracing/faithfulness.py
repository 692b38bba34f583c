"""How much of a prediction a circuit carries (arXiv 2601.22594).

1. `F(M)`: the target's value of the whole model; `F(0)`: with every neuron at every token ablated.
2. `F(C)`: every neuron outside the circuit ablated; those inside are computed from what is left.
3. `faithfulness = (F(C) - F(0)) / (F(M) - F(0))`, ideal 1.
4. `completeness = (F(M without C) - F(0)) / (F(M) - F(0))`, ideal 0.

All circuits of a curve share batches. Ablated means: at 0, at the neuron's mean over reference text, or at its value
in another text, aligned at the last token. Attention and biases always stay.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from neurodial.activations.batches import batches
from neurodial.activations.collect import pad_id
from neurodial.errors import OptionError, PromptError
from neurodial.model.hooks import Edit, Handle, installed, on_neurons
from neurodial.model.subject import Subject
from neurodial.prompts.render import Tokens
from neurodial.tracing.nodes import NodeScore
from neurodial.tracing.question import Question
from neurodial.tracing.relevance import target_values
from neurodial.tracing.rules import Rules

_ROWS = 8


@dataclass(frozen=True)
class ZeroAblation:
    """Ablated neurons are 0."""


@dataclass(frozen=True)
class MeanAblation:
    """Ablated neurons are held at their mean over all tokens of the reference texts."""

    reference: tuple[Tokens, ...]


@dataclass(frozen=True)
class ResampleAblation:
    """Ablated neurons take their values from one reference text, drawn by the seed, aligned at the last token."""

    reference: tuple[Tokens, ...]
    seed: int = 0


Ablation = ZeroAblation | MeanAblation | ResampleAblation


class CurvePoint(NamedTuple):
    """One circuit of a curve: its size, and what it does alone and what is done without it."""

    nodes: int
    faithfulness: float
    completeness: float


@dataclass(frozen=True)
class Curve:
    """Faithfulness and completeness as a circuit grows.

    Attributes:
        whole: F of the whole model.
        empty: F with every neuron ablated.
        points: one for each size.
    """

    whole: float
    empty: float
    points: tuple[CurvePoint, ...]


@torch.no_grad()
def faithfulness_curve(
    subject: Subject, question: Question, ranked: Sequence[NodeScore], counts: Sequence[int], ablation: Ablation
) -> Curve:
    """Faithfulness and completeness of the first `counts` nodes of a ranking.

    Args:
        subject: the model.
        question: the prediction.
        ranked: nodes, best first.
        counts: sizes of the circuits to measure.
        ablation: what the rest is held at.

    Raises:
        OptionError: a size is more than there are nodes, or ablating every neuron moves nothing.
        PromptError: there is no reference text, or it is too short.

    Example:
        >>> from neurodial.tracing.nodes import select_nodes
        >>> from neurodial.tracing.relevance import relevance
        >>> from neurodial.circuit.selection import Fraction
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject, question = tiny_subject(), Question((256, 72, 105), 10, 11)
        >>> [result] = relevance(subject, [question])
        >>> ranked = select_nodes(result, Fraction(1.0))
        >>> faithfulness_curve(subject, question, ranked, [len(ranked)], ZeroAblation()).points[0].faithfulness
        1.0
    """
    for count in counts:
        if not 0 <= count <= len(ranked):
            raise OptionError(f"The size is {count}.", wanted=f"from 0 to {len(ranked)}, the number of nodes given")
    baseline = _baseline(subject, question, ablation)
    circuits = [_masks(subject, question, ranked[:count]) for count in counts]
    nothing = _masks(subject, question, [])
    kept_masks = [[~mask for mask in nothing], nothing, *circuits, *([~mask for mask in masks] for masks in circuits)]
    values = _values(subject, question, kept_masks, baseline)
    whole, empty = values[:2]
    if whole == empty:
        raise OptionError(
            f"The target's value is {whole:.4f} with every neuron ablated too.",
            wanted="a target that rests on MLP neurons",
            fix="Take another ablation, target or foil.",
        )
    shares = [(value - empty) / (whole - empty) for value in values[2:]]
    pairs = zip(counts, shares[: len(counts)], shares[len(counts) :], strict=True)
    return Curve(whole, empty, tuple(CurvePoint(*pair) for pair in pairs))


def _masks(subject: Subject, question: Question, nodes: Sequence[NodeScore]) -> list[Bool[Tensor, "token neuron"]]:
    masks = [torch.zeros(len(question.tokens), width, dtype=torch.bool) for width in subject.widths]
    for score in nodes:
        masks[score.node.layer][score.node.token, score.node.neuron] = True
    return masks


def _values(
    subject: Subject, question: Question, kept_masks: Sequence[Sequence[Tensor]], baseline: Sequence[Tensor]
) -> list[float]:
    """F for each set of kept nodes."""
    values: list[float] = []
    for start in range(0, len(kept_masks), _ROWS):
        rows = kept_masks[start : start + _ROWS]

        def edit(layer: int, rows: Sequence[Sequence[Tensor]] = rows) -> Edit:
            mask = torch.stack([row[layer] for row in rows])

            def ablate(neurons: Tensor) -> Tensor:
                rest = baseline[layer].to(neurons.device, neurons.dtype)
                return torch.where(mask.to(neurons.device), neurons, rest)

            return ablate

        def install(handles: list[Handle], edit: Callable[[int], Edit] = edit) -> None:
            handles.extend(on_neurons(subject, site, edit(site.layer)) for site in subject.sites)

        tokens = torch.tensor([question.tokens] * len(rows), device=subject.device)
        with installed(install):
            output = subject.decoder(input_ids=tokens, use_cache=False).last_hidden_state
        values += target_values(subject, output, [question] * len(rows), Rules()).tolist()
    return values


def _baseline(subject: Subject, question: Question, ablation: Ablation) -> list[Float[Tensor, "token neuron"]]:
    length = len(question.tokens)
    if isinstance(ablation, ZeroAblation):
        return [torch.zeros(length, width) for width in subject.widths]
    if not ablation.reference:
        raise PromptError("There is no reference text to ablate with.", wanted="at least one prompt")
    if isinstance(ablation, MeanAblation):
        return [mean.expand(length, -1) for mean in _means(subject, ablation.reference)]
    text = random.Random(ablation.seed).choice(ablation.reference)
    if len(text) < length:
        raise PromptError(
            f"The reference text has {len(text)} tokens, the prompt {length}.",
            wanted="a reference text that is at least as long",
            fix="Take longer reference prompts, or mean ablation.",
        )
    values: list[Tensor] = []
    _read(subject, [text], lambda _, neurons, __: values.append(neurons[0, -length:]))
    return values


def _means(subject: Subject, reference: Sequence[Tokens]) -> list[Float[Tensor, "neuron"]]:
    sums = [torch.zeros(width, dtype=torch.float64) for width in subject.widths]

    def add(layer: int, neurons: Tensor, lengths: Sequence[int]) -> None:
        for row, length in enumerate(lengths):
            sums[layer] += neurons[row, :length].double().sum(dim=0)

    _read(subject, reference, add)
    return [total / sum(map(len, reference)) for total in sums]


def _read(subject: Subject, sequences: Sequence[Tokens], sink: Callable[[int, Tensor, Sequence[int]], object]) -> None:
    """Give each layer's neurons of each batch to `sink`, with the rows' lengths."""
    lengths: list[int] = []

    def edit(layer: int) -> Edit:
        def look(neurons: Tensor) -> None:
            sink(layer, neurons.cpu(), lengths)

        return look

    with installed(lambda handles: handles.extend(on_neurons(subject, s, edit(s.layer)) for s in subject.sites)):
        for batch in batches(sequences, pad=pad_id(subject)):
            lengths[:] = batch.lengths
            subject.decoder(input_ids=batch.tokens.to(subject.device), use_cache=False)
