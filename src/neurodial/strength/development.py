"""What steering does to the development split: damage, margin, how likely the answers aimed for are, broken answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from neurodial.circuit.circuit import Row
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence
from neurodial.generation.generate import generate
from neurodial.intervention.base import Intervention
from neurodial.margins.margin import Margin
from neurodial.margins.measure import measure_together
from neurodial.methods.dose.inputs import Material
from neurodial.methods.dose.options import Dose
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.prompt import Example, prompt_text
from neurodial.strength.limits import Goal, Trial
from neurodial.text.degeneration import Degeneration

_BROKEN = Degeneration(wrong_language=False)  # another language may be what is asked for
_AT_ONCE = 64  # answers

Value = TypeVar("Value")


@dataclass(frozen=True)
class Development:
    """Measures interventions on the development split.

    Attributes:
        subject: the model.
        material: margin and neutral answers.
        examples: the development prompts that the direction is about.
        method: its direction, its limits, and the longest answer.
        progress: shown while it runs.
    """

    subject: Subject
    material: Material
    examples: Sequence[Example]
    method: Dose
    progress: Progress = silent

    @cached_property
    def unsteered(self) -> Trial:
        """The same measures of the unsteered model."""
        margin, aim = self.means(self.examples, [None])[0]
        limited = self.method.max_degenerate is not None
        return Trial(0.0, (), 0.0, 0.0, margin, aim, self.degenerate([None])[0] if limited else None)

    def goal(self, budget: float | None, target: float | None, *, must: bool = True) -> Goal:
        """How far to go, within every limit that the margin and the method know."""
        before, more = self.unsteered, self.method.max_degenerate
        return Goal(
            budget,
            target,
            self.method.direction,
            must=must,
            least_aim=None if len(self._margins) == 1 else before.aim,
            most_degenerate=None if more is None or before.degenerate is None else before.degenerate + more,
        )

    def trials(
        self, strengths: Sequence[float], steered: Sequence[Intervention], rows: Sequence[tuple[Row, ...]] | None = None
    ) -> list[Trial]:
        """Damage on the neutral answers and means over the prompts, of many interventions together."""
        damage = measure_divergence(self.subject, self.material.damage, steered, progress=self.progress)
        errors = [0.0 if len(one.scored) < 2 else one.standard_error for one in damage]
        means = self.means(self.examples, steered)
        return [
            Trial(strength, doses, one.mean, error, margin, aim)
            for strength, doses, one, error, (margin, aim) in zip(
                strengths, rows or [()] * len(steered), damage, errors, means, strict=True
            )
        ]

    def degenerate(self, steered: Sequence[Intervention | None]) -> list[float]:
        """The share of the model's answers that have broken down under each intervention, whatever their language."""
        prompts = [example.prompt for example in self.examples]
        method = self.method
        decoding = Decoding(max_new_tokens=method.answer_tokens, batch_size=_AT_ONCE, system=method.system)
        under = [one for one in steered for _ in prompts]
        answers = generate(self.subject, prompts * len(steered), under=under, decoding=decoding, progress=self.progress)
        broken = [float(_BROKEN.find(prompt_text(answer.prompt), answer.text) is not None) for answer in answers]
        return [mean_of(part) for part in _parts(broken, len(steered))]

    def means(self, examples: Sequence[Example], steered: Sequence[Intervention | None]) -> list[tuple[float, float]]:
        """Under each intervention, the mean margin of some prompts and of the answers aimed for (0 without any)."""
        found = measure_together(
            self.subject,
            self._margins,
            [*examples] * len(steered),
            under=[one for one in steered for _ in examples],
            system=self.method.system,
            progress=self.progress,
        )
        parts = _parts(found, len(steered))
        return [(mean_of([one[0] for one in part]), mean_of([sum(one[1:], 0.0) for one in part])) for part in parts]

    @cached_property
    def _margins(self) -> list[Margin]:
        margin = self.material.margin
        aim = margin.aim(self.method.direction)
        return [margin] if aim is None else [margin, aim]


def _parts(values: Sequence[Value], count: int) -> list[Sequence[Value]]:
    """The values of each of `count` interventions, which follow one another."""
    size = len(values) // count
    return [values[n * size : (n + 1) * size] for n in range(count)]


def mean_of(values: Sequence[float]) -> float:
    """The mean of some numbers; 0 of none."""
    return sum(values) / max(1, len(values))
