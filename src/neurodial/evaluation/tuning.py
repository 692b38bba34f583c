"""Choosing layer, position and strength of a comparator on the development split, under a limit on what it costs.

1. Effect: the mean behaviour margin on development prompts (teacher-forced; lower is more removed).
   Cost: KL(unsteered || steered) per token on the model's own answers to neutral development prompts.
2. Coarse: every layer (and position) at one middle strength; the few best by effect go on.
3. Fine: those, at every strength. Chosen is the lowest margin whose KL is within the limit; where none is, the lowest
   KL, and the report says so.
Only the development split is read: a test prompt can't get in, because none is passed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Generic, TypeVar

from neurodial.errors import OptionError
from neurodial.generation.divergence import measure_divergence
from neurodial.intervention.base import Intervention
from neurodial.margins.margin import Margin
from neurodial.margins.measure import measure_margins
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example

Candidate = TypeVar("Candidate")


@dataclass(frozen=True)
class Bench:
    """What candidates are judged on: development prompts, neutral passages, and the limit.

    Attributes:
        subject: the model.
        margin: the behaviour's margin.
        examples: development prompts.
        passages: the model's own answers to neutral development prompts.
        limit: the largest KL in nats per token.
        finalists: how many of the coarse candidates go on.
        sign: 1 to remove the behaviour, -1 to induce it.
    """

    subject: Subject
    margin: Margin
    examples: tuple[Example, ...]
    passages: tuple[Passage, ...]
    limit: float = 0.1
    finalists: int = 4
    sign: int = 1

    def __post_init__(self) -> None:
        if not self.limit > 0 or self.finalists < 1:
            raise OptionError(
                f"The KL limit is {self.limit} with {self.finalists} finalists.", wanted="more than 0, at least 1"
            )

    def effect(self, intervention: Intervention | None) -> float:
        """The mean margin; to induce, its negative: lower is always better."""
        margins = measure_margins(self.subject, self.margin, self.examples, under=intervention)
        return self.sign * fmean(margins)

    def cost(self, interventions: Sequence[Intervention]) -> list[float]:
        """Nats per token of each."""
        return [found.mean for found in measure_divergence(self.subject, self.passages, interventions)]


@dataclass(frozen=True)
class Trial(Generic[Candidate]):
    """One candidate as it was measured.

    Attributes:
        settings: which one.
        effect: its mean margin.
        cost: its KL in nats per token; infinite where it was dropped before that was measured.
    """

    settings: Candidate
    effect: float
    cost: float


@dataclass(frozen=True)
class Choice(Generic[Candidate]):
    """What was chosen, and every trial.

    Attributes:
        best: the chosen trial.
        within_limit: whether any trial kept to the limit.
        unsteered: the effect without any intervention.
        trials: all of them.
    """

    best: Trial[Candidate]
    within_limit: bool
    unsteered: float
    trials: tuple[Trial[Candidate], ...]


def choose(
    bench: Bench,
    coarse: Sequence[Candidate],
    fine: Callable[[Candidate], Sequence[Candidate]],
    build: Callable[[Candidate], Intervention],
    *,
    progress: Progress = silent,
) -> Choice[Candidate]:
    """The best candidate.

    Args:
        bench: how candidates are judged.
        coarse: the first round; judged by effect alone.
        fine: the second round that a finalist gives.
        build: a candidate's intervention.
        progress: shown while it runs.

    Raises:
        OptionError: there is no candidate.
    """
    if not coarse:
        raise OptionError("There is nothing to choose from.", wanted="at least one layer")
    unsteered = bench.effect(None)
    with progress("tuning: first round", len(coarse)) as advance:
        first = [_timed(Trial(c, bench.effect(build(c)), math.inf), advance) for c in coarse]
    finalists = sorted(first, key=lambda trial: trial.effect)[: bench.finalists]
    candidates = [candidate for trial in finalists for candidate in fine(trial.settings)]
    built = [build(candidate) for candidate in candidates]
    costs = bench.cost(built)
    with progress("tuning: second round", len(candidates)) as advance:
        second = [
            _timed(Trial(candidate, bench.effect(intervention), cost), advance)
            for candidate, intervention, cost in zip(candidates, built, costs, strict=True)
        ]
    allowed = [trial for trial in second if trial.cost <= bench.limit]
    best = min(allowed, key=lambda t: t.effect) if allowed else min(second, key=lambda t: t.cost)
    kept = {trial.settings for trial in finalists}
    dropped = [trial for trial in first if trial.settings not in kept]
    return Choice(best, bool(allowed), unsteered, (*dropped, *second))


def _timed(trial: Trial[Candidate], advance: Callable[[int], None]) -> Trial[Candidate]:
    advance(1)
    return trial
