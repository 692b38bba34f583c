"""The one neuron: candidates steered for real, by pinning (arXiv 2605.08513).

1. Openers of one token, found in the model's own answers to the discovery prompts; candidates from slopes and
   activations (`attribution/single.py`).
2. Each candidate is pinned, at every token, to values from zero on against the sign of its mean on P+:
   `-sign(a_H) * s * |a_H|` for each step s.
3. Candidates are ranked by what is left on the development prompts: the mean probability of an opener on P+. Ties go
   to the smaller push.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from neurodial.attribution.single import Candidate, CandidateSearch, candidates
from neurodial.errors import OptionError
from neurodial.intervention.scale import Pin
from neurodial.measurement.margin import Openers, measure_margins
from neurodial.measurement.openers import OpenerSearch, find_openers
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast, PairSet


@dataclass(frozen=True)
class SingleNeuron:
    """How one neuron is looked for.

    Attributes:
        candidates: which neurons may be candidates.
        openers: how openers are found; the paper reads the first token.
        steps: pinned values, as multiples of the neuron's mean on P+ with the sign turned.

    Raises:
        OptionError: no steps, or one that is negative or not finite.

    Example:
        >>> SingleNeuron(steps=(0.0, 2.0)).candidates.count
        5
    """

    candidates: CandidateSearch = field(default_factory=CandidateSearch)
    openers: OpenerSearch = field(default_factory=lambda: OpenerSearch(length=1))
    steps: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)

    def __post_init__(self) -> None:
        if not self.steps or not all(0 <= step < math.inf for step in self.steps):
            raise OptionError(f"The steps are {self.steps}.", wanted="at least one; numbers from 0 on")


@dataclass(frozen=True)
class Pinned:
    """A candidate at one value.

    Attributes:
        candidate: the neuron, and how it was found.
        value: what it is pinned to.
        positive: mean probability of an opener on P+ of the split measured.
        negative: the same on P-.
    """

    candidate: Candidate
    value: float
    positive: float
    negative: float

    @property
    def pin(self) -> Pin:
        """The intervention, to steer with."""
        return Pin({self.candidate.neuron: self.value})


@dataclass(frozen=True)
class Found:
    """What the search for one neuron gave.

    Attributes:
        openers: how the behaviour's answers begin.
        before: mean probability of an opener on P+ and on P- of the development split, unsteered.
        sweep: every candidate at every value, the best first.
    """

    openers: Openers
    before: tuple[float, float]
    sweep: tuple[Pinned, ...]

    @property
    def best(self) -> Pinned:
        """The neuron and the value that leave least of the behaviour."""
        return self.sweep[0]


def single_neuron(
    subject: Subject, pairs: PairSet, *, method: SingleNeuron | None = None, progress: Progress = silent
) -> Found:
    """Find the one neuron whose pinning removes most of a behaviour.

    Args:
        subject: the model.
        pairs: the behaviour; candidates come from its discovery split, the ranking from its development split.
        method: how, with every option.
        progress: shown while it runs.

    Raises:
        MarginError: no opener tells the sides apart.
        PromptError: a split is missing.
        ContextLengthError: a prompt is longer than the context.
        GradientError: the model gives no gradients.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> pairs = PairSet.of([f"harm {n}" for n in range(10)], [f"help {n}" for n in range(10)])
        >>> search = OpenerSearch(length=1, rarity=0.99, share=0.0, coverage=0.0)
        >>> found = single_neuron(tiny_subject(seed=1), pairs, method=SingleNeuron(openers=search, steps=(0.0,)))
        >>> len(found.sweep)
        5
    """
    chosen = method or SingleNeuron()
    contrast, development = pairs.discovery, pairs.development
    openers = find_openers(subject, contrast, search=chosen.openers, progress=progress)  # 1
    found = candidates(subject, openers, contrast, search=chosen.candidates, progress=progress)
    return sweep(subject, openers, found, development, steps=chosen.steps, progress=progress)


def sweep(
    subject: Subject,
    openers: Openers,
    found: list[Candidate],
    contrast: Contrast,
    *,
    steps: tuple[float, ...] = SingleNeuron.steps,
    progress: Progress = silent,
) -> Found:
    """Pin every candidate to every value and measure what is left, best first (2, 3)."""
    values = [(one, pinned_value(one, step)) for one in found for step in sorted(set(steps))]
    pins = [Pin({one.neuron: value}) for one, value in values]
    both = [*contrast.positive, *contrast.negative]
    size = len(contrast.positive)
    examples = [example for _ in (None, *pins) for example in both]
    under = [pin for pin in (None, *pins) for _ in both]
    margins = measure_margins(subject, openers, examples, under=under, progress=progress)
    means = [
        (_mean(margins[start : start + size]), _mean(margins[start + size : start + len(both)]))
        for start in range(0, len(margins), len(both))
    ]
    rows = [Pinned(one, value, *mean) for (one, value), mean in zip(values, means[1:], strict=True)]
    ranked = sorted(rows, key=lambda row: (row.positive, abs(row.value), row.candidate.neuron))
    return Found(openers, means[0], tuple(ranked))


def pinned_value(candidate: Candidate, step: float) -> float:
    """Zero at step 0, then against the sign of the mean on P+.

    Example:
        >>> pinned_value(Candidate(Neuron(0, None, 1), 1.0, -1, positive=2.0, negative=0.5), 4.0)
        -8.0
    """
    return -step * candidate.positive + 0.0


def probability(margin: float) -> float:
    """The probability whose log odds a margin is.

    Example:
        >>> probability(0.0)
        0.5
    """
    return 0.5 * (1 + math.tanh(margin / 2))


def _mean(margins: list[float]) -> float:
    return sum(map(probability, margins)) / len(margins)
