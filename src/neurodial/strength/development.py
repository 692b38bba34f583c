"""Measures interventions on the development split, and searches for a strength on it.

Measured: damage on neutral answers, the margin, the likelihood of reference answers, how broken generated answers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from torch import Tensor

from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, unsteered_states
from neurodial.generation.generate import generate
from neurodial.intervention.base import Intervention
from neurodial.margins.margin import Margin
from neurodial.margins.measure import measure_together
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Direction
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example, prompt_text
from neurodial.strength.limits import AnswersBroken, Limits, Trial
from neurodial.strength.path import StrengthPath
from neurodial.strength.search import search
from neurodial.text.degeneration import Degeneration

_BROKEN = Degeneration(wrong_language=False)  # another language may be the behaviour
_PART = 5  # one in so many passages is enough for a first look
_FEWEST = 8  # passages of a first look; fewer than three times as many are no more than one look

Value = TypeVar("Value")


@dataclass(frozen=True)
class Development:
    """Measures interventions on the development split.

    Attributes:
        subject: the model.
        margin: of the behaviour.
        examples: the development prompts that the direction is about.
        passages: the model's own answers to neutral prompts, for the damage.
        direction: whether the margin should fall (remove) or rise (induce).
        max_degenerate: the greatest rise of the share of degenerate answers over the unsteered model's; None: any.
        max_broken: the greatest rise of the answers' mean brokenness over the unsteered model's; None: any.
        answer_tokens: longest answer to a development prompt.
        system: a system message before every prompt.
        progress: shown while it runs.
    """

    subject: Subject
    margin: Margin
    examples: Sequence[Example]
    passages: Sequence[Passage]
    direction: Direction = "remove"
    max_degenerate: float | None = None
    max_broken: float | None = None
    answer_tokens: int = 48
    system: str | None = None
    progress: Progress = silent

    @cached_property
    def part(self) -> Development | None:
        """A part of the passages and of the prompts, for a first look; None where there are few passages anyway."""
        if len(self.passages) < 3 * _FEWEST:
            return None
        step = max(1, min(_PART, len(self.passages) // _FEWEST))
        examples = self.examples[:: 1 if len(self.examples) < 3 * _FEWEST else 3]
        return replace(self, examples=examples, passages=self.passages[::step])

    @cached_property
    def unsteered(self) -> Trial:
        """The same measures of the unsteered model."""
        margin, reference = self.means(self.examples, [None])[0]
        trial = Trial(0.0, None, 0.0, 0.0, margin, reference)
        if self.max_degenerate is None and self.max_broken is None:
            return trial
        return replace(trial, **self.broken([None])[0]._asdict())

    def limits(self, budget: float | None, target: float | None, *, target_required: bool = True) -> Limits:
        """The limits for a search, with those that come from the unsteered model."""
        before = self.unsteered
        return Limits(
            budget,
            target,
            self.direction,
            target_required=target_required,
            least_reference=None if len(self._margins) == 1 else before.reference,
            max_degenerate=_raised(before.degenerate, self.max_degenerate),
            max_broken=_raised(before.broken, self.max_broken),
        )

    def trials(self, strengths: Sequence[float], steered: Sequence[Intervention]) -> list[Trial]:
        """Damage on the neutral answers and means over the prompts, of many interventions together."""
        damage = measure_divergence(
            self.subject, self.passages, steered, unsteered=self._unsteered_states, progress=self.progress
        )
        errors = [0.0 if len(divergence.scored) < 2 else divergence.standard_error for divergence in damage]
        means = self.means(self.examples, steered)
        return [
            Trial(strength, intervention, divergence.mean, error, margin, reference)
            for strength, intervention, divergence, error, (margin, reference) in zip(
                strengths, steered, damage, errors, means, strict=True
            )
        ]

    def broken(self, steered: Sequence[Intervention | None]) -> list[AnswersBroken]:
        """How broken the answers are under each intervention; any language is allowed."""
        prompts = [example.prompt for example in self.examples]
        decoding = Decoding(max_new_tokens=self.answer_tokens, system=self.system)
        under = [intervention for intervention in steered for _ in prompts]
        answers = generate(self.subject, prompts * len(steered), under=under, decoding=decoding, progress=self.progress)
        signs = [_BROKEN.measure(prompt_text(answer.prompt), answer.text) for answer in answers]
        return [
            AnswersBroken(mean_of([float(one.is_degenerate) for one in rows]), mean_of([one.value for one in rows]))
            for rows in _by_intervention(signs, len(steered))
        ]

    def means(self, examples: Sequence[Example], steered: Sequence[Intervention | None]) -> list[tuple[float, float]]:
        """Under each intervention, the mean margin of some prompts and of the reference answers (0 without any)."""
        measured = measure_together(
            self.subject,
            self._margins,
            [*examples] * len(steered),
            under=[intervention for intervention in steered for _ in examples],
            system=self.system,
            progress=self.progress,
        )
        by_intervention = _by_intervention(measured, len(steered))
        return [
            (mean_of([values[0] for values in rows]), mean_of([sum(values[1:], 0.0) for values in rows]))
            for rows in by_intervention
        ]

    @cached_property
    def _unsteered_states(self) -> list[Tensor]:
        return unsteered_states(self.subject, self.passages)

    @cached_property
    def _margins(self) -> list[Margin]:
        reference = self.margin.reference(self.direction)
        return [self.margin] if reference is None else [self.margin, reference]


@dataclass(frozen=True, eq=False)
class PathSearch:
    """The search along one path. Measurements for one set of limits are reused for another.

    Attributes:
        development: where it is measured.
        path: the path.
    """

    development: Development
    path: StrengthPath
    _known: dict[float, Trial] = field(default_factory=dict, repr=False)

    @cached_property
    def first_look(self) -> PathSearch | None:
        """The search on a part of the development split; None where that is small anyway."""
        part = self.development.part
        return None if part is None else PathSearch(part, self.path)

    def best(self, limits: Limits, *, near: float | None = None, rounds: int = 4) -> tuple[Trial, tuple[Trial, ...]]:
        """The best trial within the limits, and all trials in the order of their strength.

        Args:
            limits: to keep.
            near: a strength that is nearly right, as a first look found it.
            rounds: of the search, at most.

        Raises:
            BudgetError: a limit is exceeded even by the smallest strength, or a target is out of reach.
        """
        ends, answer = (self.path.low, self.path.high), self._broken
        guess = self.path.guess
        return search(*ends, self.measure, limits, answer=answer, guess=guess, near=near, rounds=rounds)

    def measure(self, strengths: Sequence[float]) -> list[Trial]:
        """Trials at some strengths."""
        fresh = [strength for strength in strengths if strength not in self._known]
        if fresh:
            trials = self.development.trials(fresh, [self.path.at(strength) for strength in fresh])
            self._known.update((trial.strength, trial) for trial in trials)
        return [self._known[strength] for strength in strengths]

    def _broken(self, strengths: Sequence[float]) -> list[AnswersBroken]:
        return self.development.broken([self.path.at(strength) for strength in strengths])


def _by_intervention(values: Sequence[Value], count: int) -> list[Sequence[Value]]:
    """The values of each of `count` interventions, which follow one another."""
    size = len(values) // count
    return [values[n * size : (n + 1) * size] for n in range(count)]


def _raised(before: float | None, more: float | None) -> float | None:
    """The limit that a rise over the unsteered model's value makes."""
    return None if before is None or more is None else before + more


def mean_of(values: Sequence[float]) -> float:
    """The mean of some numbers; 0 of none."""
    return sum(values) / max(1, len(values))
