"""Contrastive neuron attribution end to end: prompts in, a circuit's rows out (arXiv 2605.12290).

1. Render the prompts with the tokenizer's chat template.
2. One batched pass; statistics streamed by side and by fold. A routed expert's neuron counts with routing weight times
   activation, and with 0 where the token went elsewhere: with what its column is written.
3. Scores: delta, or standardised delta, or AUROC.
4. Universal neurons, found on diverse prompts, are left out first, so that the circuit keeps its size.
5. The k largest scores, globally over all layers.
6. Stability: steps 3 and 5 again without each fold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.collect import Reader, Reading, Sink, collect, places_read
from neurodial.activations.position import Position, PostInstruction
from neurodial.activations.statistics import GroupedMoments, VisitCounts
from neurodial.circuit.circuit import Row, Stability
from neurodial.circuit.site import Neuron, Site
from neurodial.methods.apart import check_apart, check_scores
from neurodial.methods.choose import Rule, check_skipped, choose
from neurodial.methods.cna.contrastive import auroc, delta_scores
from neurodial.methods.cna.options import CNA
from neurodial.methods.cna.universal import universal_neurons
from neurodial.methods.folds import fold_of_each, stability_over_folds
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.render import Tokens


@dataclass(frozen=True)
class Attribution:
    """The result of CNA.

    Attributes:
        scores: of every neuron.
        rows: the neurons chosen, best first.
        universal: the neurons flagged as universal.
        removed: those of them that would have been chosen.
        stability: over the prompt folds, or None where there are no folds.
    """

    scores: Scores
    rows: tuple[Row, ...]
    universal: frozenset[Neuron]
    removed: tuple[Neuron, ...]
    stability: Stability | None


Scorer = Callable[[int | None], Scores]
"""Scores of all prompts (None) or of those outside one fold."""


class WhatIsRead(NamedTuple):
    """Everything that CNA reads of a model.

    Attributes:
        reading: at which position.
        contrast: rendered prompts of the two sides, the positive ones first.
        diverse: those on which universal neurons are found.
    """

    reading: Reading
    contrast: list[Tokens]
    diverse: list[Tokens]


def what_is_read(subject: Subject, contrast: Contrast, method: CNA) -> WhatIsRead:
    """The rendered prompts, after everything that can be wrong with them was looked for.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        OptionError: a layer to skip does not exist, or all are skipped.
        PromptError: prompts of the two sides are rendered alike.
        ActivationError: a prompt is too short for the position.
    """
    reading = Reading(_position(subject, method))
    check_skipped(method.skip_layers, [site.layer for site in subject.sites])
    diverse = () if method.universal is None else read_prompt_list(method.universal.prompts).prompts
    sides, others = (
        subject.render(prompts, system=method.system, double_bos=method.as_published)
        for prompts in ([example.prompt for example in (*contrast.positive, *contrast.negative)], diverse)
    )
    for sequences in (sides, others):
        places_read(subject, sequences, reading)
    check_apart(subject, contrast, system=method.system, double_bos=method.as_published, position=reading.position)
    return WhatIsRead(reading, sides, others)


def attribute(
    subject: Subject, contrast: Contrast, method: CNA, *, read: Reader = collect, progress: Progress = silent
) -> Attribution:
    """Find the neurons whose activations differ most between the sides of a contrast.

    Args:
        subject: the model.
        contrast: the prompts.
        method: with its options.
        read: gives the activations; by default by running the subject's model.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt is longer than the context; checked before any work.
        OptionError: a layer to skip does not exist, or all are skipped; checked before any work.
        PromptError: prompts of the two sides are rendered alike; checked before any work.
        ActivationError: a prompt is too short for the position (checked before any work), an activation is not finite,
            or every score is 0.
    """
    texts = what_is_read(subject, contrast, method)
    folds = min(method.folds, len(contrast.positive), len(contrast.negative))
    universal: frozenset[Neuron] = frozenset()
    if method.universal is not None:
        universal = universal_neurons(
            subject, texts.diverse, texts.reading, method.universal, read=read, progress=progress
        )
    score, visits = _scorer(subject, contrast, method, folds, _reads(subject, texts, read, progress))
    rule = Rule(method.select, method.sign, method.skip_layers)
    scores = check_scores(score(None))
    unfiltered = choose(scores, rule)
    rule = dataclasses.replace(rule, excluded=universal)
    rows = choose(scores, rule)
    removed = tuple(row.neuron for row in unfiltered if row.neuron in universal)
    stability = stability_over_folds(
        {row.neuron for row in rows}, folds, lambda fold: (row.neuron for row in choose(score(fold), rule))
    )
    rows = tuple(row._replace(visits=_pair(visits.of(row.neuron))) for row in rows)
    return Attribution(scores, rows, universal, removed, stability)


def _pair(counts: tuple[int, ...] | None) -> tuple[int, int] | None:
    return None if counts is None else (counts[0], counts[1])


def _position(subject: Subject, method: CNA) -> Position:
    if method.position == PostInstruction():
        return PostInstruction(subject.post_instruction_length)
    return method.position


def _reads(subject: Subject, texts: WhatIsRead, read: Reader, progress: Progress) -> Callable[[Sink], None]:
    return lambda sink: read(subject, texts.contrast, texts.reading, sink, progress=progress)


def _scorer(
    subject: Subject, contrast: Contrast, method: CNA, folds: int, read: Callable[[Sink], None]
) -> tuple[Scorer, VisitCounts]:
    sides = [[example.prompt for example in side] for side in (contrast.positive, contrast.negative)]
    fold_count = max(1, folds)
    groups = [
        number * fold_count + fold for number, side in enumerate(sides) for fold in fold_of_each(side, fold_count)
    ]
    visits = VisitCounts([group // fold_count for group in groups], 2)
    if method.score == "auroc" or method.as_published:
        stored = _Stored()
        read(_to_both(stored.add, visits.add))
        return _from_activations(stored, torch.tensor(groups), fold_count, method), visits
    moments = GroupedMoments(groups, 2 * fold_count)
    read(_to_both(moments.add, visits.add))

    def score(without: int | None) -> Scores:
        chosen = [fold for fold in range(fold_count) if fold != without]
        return delta_scores(moments, subject.sites, chosen, [fold_count + fold for fold in chosen], score=method.score)

    return score, visits


def _to_both(first: Sink, second: Sink) -> Sink:
    def add(site: Site, activations: Tensor, rows: tuple[int, ...]) -> None:
        first(site, activations, rows)
        second(site, activations, rows)

    return add


class _Stored:
    """Stores the activations, for scores that can't be computed from statistics. Memory is prompts x neurons."""

    def __init__(self) -> None:
        self._batches: dict[Site, list[Tensor]] = {}
        self._rows: dict[Site, list[int]] = {}

    def add(self, site: Site, activations: Float[Tensor, "row *neuron"], rows: tuple[int, ...]) -> None:
        """Store a batch; a sink for `collect`."""
        self._batches.setdefault(site, []).append(activations)
        self._rows.setdefault(site, []).extend(rows)

    def sites(self) -> list[Site]:
        """The sites that were read."""
        return list(self._batches)

    def activations(self, site: Site) -> Float[Tensor, "prompt *neuron"]:
        """Activations of a site in the order of the prompts."""
        order = torch.tensor(self._rows[site]).argsort()
        joined = torch.cat(self._batches[site])
        return joined[order.to(joined.device)]


def _from_activations(stored: _Stored, groups: Tensor, fold_count: int, method: CNA) -> Scorer:
    def score(without: int | None) -> Scores:
        used = torch.ones_like(groups, dtype=torch.bool) if without is None else groups % fold_count != without
        positive, negative = (groups < fold_count) & used, (groups >= fold_count) & used
        compute = _rounded_delta if method.as_published else auroc
        by_site = {}
        for site in stored.sites():
            values = stored.activations(site)
            sides = [values[side.to(values.device)].flatten(1) for side in (positive, negative)]
            by_site[site] = compute(sides[0], sides[1]).reshape(values.shape[1:])
        return Scores(by_site)

    return score


def _rounded_delta(positive: Tensor, negative: Tensor) -> Tensor:
    """The public code's score: bfloat16 activations, with means and their difference rounded to bfloat16."""
    means = [side.to(torch.bfloat16).mean(dim=0) for side in (positive, negative)]
    return (means[0] - means[1]).double()
