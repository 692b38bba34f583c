"""The effects that doses follow: on the margin, and on reference answers.

A margin may have reference answers: those that removing (or inducing) the behaviour should lead to, which must become
no less likely. Neurons of large effect on the margin may make them less likely. To first order, the best doses under
such a limit follow the effects on the margin plus a multiple of those on the reference answers (a Lagrange multiplier).
Three multiples are tried: none, one, and the reference answers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from neurodial.margins.margin import Margin
from neurodial.methods.apart import check_scores
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Direction
from neurodial.prompts.prompt import Example

Mixture = Literal["margin", "margin and reference", "reference"]
"""Which effects the doses follow."""


@dataclass(frozen=True)
class Effects:
    """Effects of every neuron.

    Attributes:
        margin: on the margin.
        reference: on the mean log-likelihood of the reference answers, where the margin knows any.
        direction: whether the margin should fall (remove) or rise (induce). Reference answers should become likelier.
    """

    margin: Scores
    reference: Scores | None
    direction: Direction

    @property
    def mixtures(self) -> tuple[Mixture, ...]:
        """The mixtures of effects that doses can follow."""
        return ("margin",) if self.reference is None else ("margin", "margin and reference", "reference")

    def along(self, mixture: Mixture) -> Scores:
        """The effects to push along: turning down a neuron of positive effect is a step in the direction.

        Example:
            >>> import torch
            >>> from neurodial.circuit.site import Site
            >>> margin, reference = (Scores({Site(0): torch.tensor(values)}) for values in ([2.0, 1.0], [0.5, -3.0]))
            >>> Effects(margin, reference, "remove").along("margin and reference").flat().tolist()
            [1.5, 4.0]
        """
        if self.reference is None or mixture == "margin":
            return self.margin
        away = -1.0 if self.direction == "remove" else 1.0
        reference = Scores({site: away * self.reference[site] for site in self.reference})
        return reference if mixture == "reference" else _sum(self.margin, reference)


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
    """The effects on some prompts, under the current steering, as a function of the folds to use."""
    moments_of_objectives = [
        effect(subject, objective, examples, folds=folds, system=system, progress=progress)
        for objective in (margin, margin.reference(direction))
        if objective is not None
    ]

    def of(chosen: Sequence[int]) -> Effects:
        scores = [check_scores(effect_scores(moments, subject.sites, chosen)) for moments in moments_of_objectives]
        return Effects(scores[0], scores[1] if len(scores) > 1 else None, direction)

    return of


def _sum(first: Scores, second: Scores) -> Scores:
    return Scores({site: first[site] + second[site].to(first[site]) for site in first})
