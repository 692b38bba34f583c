"""What doses push along: the effects on the margin, and on the answers aimed for.

A margin may know which answers its fall (or, to induce, its rise) is to lead to, and these must become no less likely.
Neurons of large effect on the margin may make them so at once. The best that can be done to first order under such a
limit pushes along the effects on the margin plus some multiple of those on the answers aimed for (the multiplier of
Lagrange). Three multiples are tried: none, one, and the answers aimed for alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from neurodial.circuit.circuit import Direction
from neurodial.margins.margin import Margin
from neurodial.methods.apart import check_scores
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.prompt import Example

Push = Literal["margin", "margin and aim", "aim"]


@dataclass(frozen=True)
class Effects:
    """Effects of every neuron.

    Attributes:
        margin: on the margin.
        aim: on the mean log-likelihood of the answers aimed for, where the margin knows any.
        direction: whether the margin is to fall or to rise. The answers aimed for are always to become likelier.
    """

    margin: Scores
    aim: Scores | None
    direction: Direction

    @property
    def pushes(self) -> tuple[Push, ...]:
        """What can be pushed along."""
        return ("margin",) if self.aim is None else ("margin", "margin and aim", "aim")

    def along(self, push: Push) -> Scores:
        """The effects to push along: turning down a neuron of positive effect is a step in the direction.

        Example:
            >>> import torch
            >>> from neurodial.circuit.site import Site
            >>> margin, aim = (Scores({Site(0): torch.tensor(values)}) for values in ([2.0, 1.0], [0.5, -3.0]))
            >>> Effects(margin, aim, "remove").along("margin and aim").flat().tolist()
            [1.5, 4.0]
        """
        if self.aim is None or push == "margin":
            return self.margin
        away = -1.0 if self.direction == "remove" else 1.0
        aim = Scores({site: away * self.aim[site] for site in self.aim})
        return aim if push == "aim" else _sum(self.margin, aim)

    def mean_with(self, other: Effects, weight: float) -> Effects:
        """The mean with other effects of the same; `weight` of those."""
        aim = None if self.aim is None or other.aim is None else _sum(self.aim, other.aim, 1 - weight, weight)
        return Effects(_sum(self.margin, other.margin, 1 - weight, weight), aim, self.direction)


def effects_by_fold(
    subject: Subject,
    margin: Margin,
    examples: Sequence[Example],
    direction: Direction,
    *,
    folds: Sequence[int] | None = None,
    system: str | None = None,
    progress: Progress = silent,
) -> Callable[[Sequence[int]], Effects]:
    """The effects on some prompts, under whatever steering is on; what it gives takes them from the folds asked for."""
    taken = [
        effect(subject, one, examples, folds=folds, system=system, progress=progress)
        for one in (margin, margin.aim(direction))
        if one is not None
    ]

    def of(chosen: Sequence[int]) -> Effects:
        scores = [check_scores(effect_scores(moments, subject.sites, chosen)) for moments in taken]
        return Effects(scores[0], scores[1] if len(scores) > 1 else None, direction)

    return of


def _sum(first: Scores, second: Scores, weight: float = 1.0, other: float = 1.0) -> Scores:
    return Scores({site: weight * first[site] + other * second[site].to(first[site]) for site in first})
