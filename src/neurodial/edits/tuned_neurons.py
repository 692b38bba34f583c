"""The same neurons before and after tuning: how they tell a behaviour apart, and how far their weights moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Last
from neurodial.activations.statistics import GroupedMoments
from neurodial.circuit.circuit import Circuit
from neurodial.circuit.site import Neuron, OfOneNeuron, Site
from neurodial.methods.cna.contrastive import delta_scores
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast
from neurodial.tracing.lens import read_tokens
from neurodial.tracing.neuron import WrittenToken, written_tokens

TOKENS = 6
"""Tokens of each kind that are shown of a neuron."""


@dataclass(frozen=True)
class TunedNeuron(OfOneNeuron):
    """A neuron in both models. Pairs are (base, tuned).

    Attributes:
        layer: its block.
        expert: its routed expert; None in a dense MLP.
        index: in its layer, or its expert.
        in_circuit: whether it belongs to the circuit of each.
        difference: of the means of its activation on the two sides.
        apart: the same in pooled standard deviations.
        rank: its place among all neurons by the absolute difference, from 1.
        moved: length of the change of its output column, over the column's own.
        moved_more_than: share of its layer's columns that moved less.
    """

    layer: int
    expert: int | None
    index: int
    in_circuit: tuple[bool, bool]
    difference: tuple[float, float]
    apart: tuple[float, float]
    rank: tuple[int, int]
    moved: float
    moved_more_than: float


@dataclass(frozen=True)
class NeuronInBoth(OfOneNeuron):
    """What a neuron writes and reads in both models: tokens, strongest first. Pairs are (base, tuned).

    Attributes:
        layer: its block.
        expert: its routed expert; None in a dense MLP.
        index: in its layer, or its expert.
        writes: tokens that its output column raises most.
        holds_down: tokens that it lowers most.
        reads: by map (`gate`, `up`), tokens whose embeddings its row answers to most.
    """

    layer: int
    expert: int | None
    index: int
    writes: tuple[tuple[str, ...], tuple[str, ...]]
    holds_down: tuple[tuple[str, ...], tuple[str, ...]]
    reads: tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True, eq=False)
class SideDifferences:
    """What every neuron of a model does on two sides: CNA's delta scores, and the same standardised."""

    difference: Scores
    apart: Scores

    def rank(self, neuron: Neuron) -> int:
        """A neuron's place by its absolute difference, from 1."""
        own = self.difference[neuron.site][neuron.place].abs()
        return 1 + int((self.difference.flat().abs() > own).sum())


def side_differences(subject: Subject, contrast: Contrast, *, progress: Progress = silent) -> SideDifferences:
    """Differences of means at the last token, of every neuron.

    Args:
        subject: the model.
        contrast: both sides.
        progress: shown while it runs.
    """
    sides = (contrast.positive, contrast.negative)
    prompts = [example.prompt for side in sides for example in side]
    groups = [number for number, side in enumerate(sides) for _ in side]
    moments = GroupedMoments(groups, 2)
    collect(subject, subject.render(prompts), Reading(Last()), moments.add, progress=progress)
    return SideDifferences(
        delta_scores(moments, subject.sites, [0], [1], score="delta"),
        delta_scores(moments, subject.sites, [0], [1], score="standardised"),
    )


def tuned_neurons(
    subjects: tuple[Subject, Subject],
    circuits: tuple[Circuit, Circuit],
    differences: Sequence[SideDifferences],
) -> tuple[TunedNeuron, ...]:
    """Every neuron of either circuit, in both models.

    Args:
        subjects: base and tuned.
        circuits: of base and tuned.
        differences: of both, over the same prompts.
    """
    found = []
    moved: dict[Site, Tensor] = {}
    neurons = circuits[0].neurons | circuits[1].neurons
    for neuron in sorted(neurons, key=lambda one: one.order):
        site = neuron.site
        if site not in moved:
            before, after = (_columns(subject, site) for subject in subjects)
            moved[site] = (after - before).norm(dim=-2) / before.norm(dim=-2).clamp(min=1e-12)
        own = moved[site][neuron.place]
        first, second = differences
        found.append(
            TunedNeuron(
                layer=neuron.layer,
                expert=neuron.expert,
                index=neuron.index,
                in_circuit=(neuron in circuits[0], neuron in circuits[1]),
                difference=(float(first.difference[site][neuron.place]), float(second.difference[site][neuron.place])),
                apart=(float(first.apart[site][neuron.place]), float(second.apart[site][neuron.place])),
                rank=(first.rank(neuron), second.rank(neuron)),
                moved=float(own),
                moved_more_than=float((moved[site] < own).double().mean()),
            )
        )
    return tuple(found)


def explained_in_both(
    subjects: tuple[Subject, Subject], neurons: Sequence[TunedNeuron], count: int
) -> tuple[NeuronInBoth, ...]:
    """The neurons whose difference changed most, with what they write and read in both models.

    Args:
        subjects: base and tuned.
        neurons: in both models.
        count: how many.
    """
    found = []
    for one in changed_most(neurons)[:count]:
        (up, down), (up_after, down_after) = (written_tokens(subject, one.neuron, TOKENS) for subject in subjects)
        before, after = (read_tokens(subject, one.neuron, TOKENS) for subject in subjects)
        found.append(
            NeuronInBoth(
                *(one.layer, one.expert, one.index),
                writes=(_texts(up), _texts(up_after)),
                holds_down=(_texts(down), _texts(down_after)),
                reads=(
                    {name: _texts(tokens) for name, tokens in before.items()},
                    {name: _texts(tokens) for name, tokens in after.items()},
                ),
            )
        )
    return tuple(found)


def changed_most(neurons: Sequence[TunedNeuron]) -> list[TunedNeuron]:
    """Neurons by how far their difference moved, furthest first."""
    return sorted(neurons, key=lambda one: -abs(one.difference[1] - one.difference[0]))


def _texts(tokens: Sequence[WrittenToken]) -> tuple[str, ...]:
    return tuple(token.text for token in tokens)


def _columns(subject: Subject, site: Site) -> Float[Tensor, "*expert hidden neuron"]:
    """The output columns of a site's neurons."""
    if site.routed:
        return subject.down_weight(site).detach().float().cpu()
    return subject.down_columns(site, range(subject.widths[site.layer]))
