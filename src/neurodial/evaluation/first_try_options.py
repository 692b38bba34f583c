"""How much a first try of a behaviour does; each default in one place. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from neurodial.errors import OptionError
from neurodial.evaluation.options import WHOLE_DETECTORS, Evaluation
from neurodial.generation.decoding import Decoding
from neurodial.methods.base import check_choices
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.options import Dose
from neurodial.options import noted
from neurodial.prompts.pairs import Direction

FirstMethod = Literal["dose", "cna"]


def _detector_names() -> Sequence[str]:
    from neurodial.evaluation.detectors.registry import detector_names

    return detector_names()


@dataclass(frozen=True)
class FirstTry:
    """A little of everything, in minutes: whether a behaviour shows, whether neurons can turn it, and at what cost.

    Attributes:
        method: how neurons are found: `dose`, or where it can't measure the behaviour on this model `cna`; or `cna`
            at once.
        direction: `remove` the behaviour, or `induce` it where it is absent.
        detectors: names of detectors (`neurodial detectors` lists them); none: the behaviour's own, else one that is
            derived from the prompts.
        budget: damage in nats per token that the circuit may do at dial 1.
        found_on: at most this many discovery and development prompts of each side to find neurons with.
        prompts: at most this many test prompts of each side to measure on.
        answer_tokens: the longest answer.

    Example:
        >>> FirstTry(prompts=8).evaluation.prompts
        8
    """

    method: FirstMethod = "dose"
    direction: Direction = "remove"
    detectors: tuple[str, ...] = field(default=(), metadata=noted(listed=_detector_names, whole_after=WHOLE_DETECTORS))
    budget: float = 0.05
    found_on: int = 16
    prompts: int = 12
    answer_tokens: int = 40

    def __post_init__(self) -> None:
        check_choices(self, method=FirstMethod, direction=Direction)
        for name, least in (("found_on", 2), ("prompts", 2), ("answer_tokens", 1)):
            if getattr(self, name) < least:
                raise OptionError(f"{name} is {getattr(self, name)}.", wanted=f"at least {least}")
        if not self.budget > 0:
            raise OptionError(f"The budget is {self.budget}.", wanted="more than 0 nats per token")

    @property
    def dose(self) -> Dose:
        """Dose with the least that tells: one sign to remove, few neutral answers, no folds."""
        sign: Literal["tuned", "positive"] = "positive" if self.direction == "remove" else "tuned"
        return Dose(
            budget=self.budget, direction=self.direction, sign=sign, folds=0, draws=1, passages=12, answer_tokens=16
        )

    @property
    def cna(self) -> CNA:
        """CNA as published, without folds."""
        return CNA(folds=0)

    @property
    def looking(self) -> Evaluation:
        """What is measured of the unsteered model: its answers."""
        return Evaluation(
            detectors=self.detectors,
            decoding=Decoding(max_new_tokens=self.answer_tokens),
            prompts=self.prompts,
            neutral=0,
            over_refusal=0,
            margin="none",
            perplexity=0,
            speed=False,
        )

    @property
    def evaluation(self) -> Evaluation:
        """What is measured of the circuit: answers, and what it costs on neutral ones."""
        return Evaluation(
            detectors=self.detectors,
            decoding=Decoding(max_new_tokens=self.answer_tokens),
            prompts=self.prompts,
            neutral=6,
            over_refusal=0,
            divergence_tokens=24,
            perplexity=0,
            speed=False,
            kl_limit=max(0.1, self.budget),
        )
