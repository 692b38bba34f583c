"""A condition for a circuit: what to read of a prompt, and the threshold that it must pass.

1. Weights from the discovery prompts: the difference, between the sides, of each neuron's mean activation (its sign
   alone for `mean`), or of the mean residual stream after a block.
2. Threshold from the development prompts: at most the given share of the other side's prompts is above it, and it lies
   halfway between the highest of those that must stay below and the next reading above that. Where that share is too
   small to be counted on so few prompts (1 % of 40), it is at least where a normal distribution with their mean and
   spread would let so many pass.
3. `direction` tries every block, and takes the one at which most prompts of its side pass; of those the one with the
   widest gap, in standard deviations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from jaxtyping import Float
from torch import Tensor

from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Last
from neurodial.activations.statistics import GroupedMoments
from neurodial.circuit.circuit import Circuit
from neurodial.circuit.prompt_condition import PromptCondition, SideRate
from neurodial.errors import PromptError
from neurodial.intervention.decide import prompt_readings
from neurodial.intervention.scale import check_condition, check_fits
from neurodial.methods.apart import check_apart
from neurodial.methods.condition_options import ConditionOptions
from neurodial.methods.scores import Scores
from neurodial.methods.vectors.differences import last_token_vectors
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast, PairSet

_COUNTED = 5  # prompts of the other side that may pass; fewer are not counted on


def find_condition(
    subject: Subject,
    circuit: Circuit,
    pairs: PairSet,
    options: ConditionOptions | None = None,
    *,
    progress: Progress = silent,
) -> PromptCondition:
    """The condition under which a prompt is taken for one of the positive prompts.

    Args:
        subject: the model that the circuit is of.
        circuit: whose neurons are read.
        pairs: the positive prompts are those on which the circuit should act, the negative ones those that it should
            leave alone. Discovery and development prompts are read.
        options: what is read, and how often it may err.
        progress: shown while it runs.

    Raises:
        ModelMismatchError: the circuit was made on another model.
        PromptError: a split is missing, or no development prompt of its side can be told from the other side.
    """
    options = options or ConditionOptions()
    check_fits(circuit, subject)
    discovery, development = pairs.get("discovery"), pairs.get("development")
    if discovery is None or development is None:
        raise PromptError(
            "A condition needs discovery and development prompts.", wanted="a prompt set in splits, or more prompts"
        )
    check_apart(subject, discovery)
    digests = sorted({*discovery.digests, *development.digests})
    record = {**discovery.record, "development_hash": development.hash, "digests": digests, "of": pairs.behaviour.name}
    blank = PromptCondition(
        options.reading,
        0.0,
        (1.0,),
        SideRate(0, 1),
        SideRate(0, 1),
        options.false_positive_rate,
        layer=0,
        prompts=record,
    )
    if options.reading == "direction":
        candidates = _directions(subject, discovery, blank)
    else:
        candidates = [_of_neurons(subject, circuit, discovery, blank, progress)]
    sides = [[example.prompt for example in side] for side in (development.positive, development.negative)]
    positive, negative = (prompt_readings(subject, candidates, prompts) for prompts in sides)
    found = [_with_threshold(*parts) for parts in zip(candidates, positive, negative, strict=True)]
    gaps = (positive.mean(dim=1) - negative.mean(dim=1)) / (positive.var(dim=1) + negative.var(dim=1)).sqrt()
    best = max(range(len(found)), key=lambda n: (found[n].positive.holds, float(gaps[n].nan_to_num())))
    if found[best].positive.holds == 0:
        raise PromptError(
            f"None of the {len(sides[0])} development prompts on which the circuit should act can be told from the "
            f"others by {options.reading}, at {options.false_positive_rate:.0%} of these passing.",
            wanted="a reading that tells the sides apart",
            fix="Take another reading (--reading direction), or allow more (--false-positive-rate 0.05).",
        )
    return found[best]


def _of_neurons(
    subject: Subject, circuit: Circuit, contrast: Contrast, blank: PromptCondition, progress: Progress
) -> PromptCondition:
    neurons = tuple(row.neuron for row in circuit)
    check_condition(replace(blank, weights=(1.0,) * len(neurons), neurons=neurons, layer=None), subject)
    prompts = [example.prompt for example in (*contrast.positive, *contrast.negative)]
    groups = [0] * len(contrast.positive) + [1] * len(contrast.negative)
    moments = GroupedMoments(groups, 2)
    collect(subject, subject.render(prompts), Reading(Last()), moments.add, progress=progress)
    differences = Scores({site: moments.mean(site, [0]) - moments.mean(site, [1]) for site in subject.sites})
    own = differences.flat()[differences.places_of(neurons)]
    weights = own.sign() / len(neurons) if blank.reading == "mean" else _to_length_one(own)
    return replace(blank, weights=tuple(weights.tolist()), neurons=neurons, layer=None)


def _directions(subject: Subject, contrast: Contrast, blank: PromptCondition) -> list[PromptCondition]:
    vectors = last_token_vectors(subject, contrast)[0]
    return [
        replace(blank, weights=tuple(_to_length_one(vector).tolist()), layer=layer)
        for layer, vector in enumerate(vectors)
    ]


def _to_length_one(vector: Float[Tensor, "number"]) -> Float[Tensor, "number"]:
    length = vector.norm()
    return vector / length if float(length) else vector


def _with_threshold(
    candidate: PromptCondition, positive: Float[Tensor, "positive"], negative: Float[Tensor, "negative"]
) -> PromptCondition:
    """The candidate with its threshold, and on how many prompts it holds (2)."""
    rate, count = candidate.false_positive_rate, len(negative)
    highest: float = negative.sort(descending=True).values[int(rate * count + 1e-9)].item()
    above: Sequence[float] = [value for value in (*positive.tolist(), *negative.tolist()) if value > highest]
    threshold = (highest + min(above)) / 2 if above else highest
    if 0 < rate * count < _COUNTED and count > 1:
        threshold = max(threshold, float(negative.mean() + NormalDist().inv_cdf(1 - rate) * negative.std()))
    holds = [SideRate(int((side > threshold).sum()), len(side)) for side in (positive, negative)]
    return replace(candidate, threshold=threshold, positive=holds[0], negative=holds[1])
