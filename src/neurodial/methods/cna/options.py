"""The options of contrastive neuron attribution, with every default in one place. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from neurodial.activations.position import Last, Position
from neurodial.circuit.selection import Count, Fraction, Select
from neurodial.errors import OptionError
from neurodial.methods.base import Sign, check_choices

Score = Literal["delta", "standardised", "auroc"]


@dataclass(frozen=True)
class UniversalFilter:
    """Neurons that are among the most active on almost any prompt, and are left out of circuits.

    Attributes:
        prompts: name or path of the list of diverse prompts.
        fraction: the share of all neurons that counts as most active on one prompt.
        share: the share of prompts on which a neuron must be among them to be flagged.

    Example:
        >>> UniversalFilter(share=0.9).prompts
        'diverse'
    """

    prompts: str = "diverse"
    fraction: float = 0.001
    share: float = 0.8

    def __post_init__(self) -> None:
        Fraction(self.fraction)
        if not 0 < self.share <= 1:
            raise OptionError(f"The universal share is {self.share}.", wanted="more than 0 and at most 1")


@dataclass(frozen=True)
class CNA:
    """Contrastive neuron attribution (arXiv 2605.12290). The defaults are the paper's.

    Attributes:
        score: `delta`, the difference of mean activations (the paper); `standardised`, divided by the pooled
            standard deviation; `auroc`, how well the activation alone tells the sides apart, minus one half.
        sign: take neurons of either sign (the paper), or only those that rise or fall with the behaviour.
        position: the token that is read.
        select: how many neurons, out of all layers together.
        skip_layers: layers left out. None by default; the public code drops 0 and 1 in silence.
        universal: the filter of universal neurons, or None.
        folds: number of prompt folds for the stability measure; 0 for none.
        rounding: round activations and means to bfloat16, as the public code does. Off by default.
        double_bos: tokenise the rendered template again, as the public code does. Off by default.
        system: a system message before every prompt.

    Example:
        >>> CNA(score="standardised").select
        Fraction(value=0.001)
    """

    score: Score = "delta"
    sign: Sign = "both"
    position: Position = field(default_factory=Last)
    select: Select = field(default_factory=Fraction)
    skip_layers: tuple[int, ...] = ()
    universal: UniversalFilter | None = field(default_factory=UniversalFilter)
    folds: int = 10
    rounding: bool = False
    double_bos: bool = False
    system: str | None = None

    def __post_init__(self) -> None:
        check_choices(self, score=Score, sign=Sign)
        if self.folds < 0 or self.folds == 1:
            raise OptionError(f"The number of folds is {self.folds}.", wanted="0 for none, or 2 and more")
        if self.rounding and self.score != "delta":
            raise OptionError("Rounding reproduces the public code, which knows only delta.", wanted="score delta")

    @classmethod
    def reference(cls) -> CNA:
        """What the public code does, each difference from the paper on purpose.

        Layers 0 and 1 are dropped, no universal neurons are filtered, 1600 neurons are taken from a model of any
        size, activations and means are rounded to bfloat16, and the rendered template is tokenised again, which
        doubles the beginning-of-sequence token where the tokenizer adds one.
        """
        return cls(skip_layers=(0, 1), universal=None, select=Count(1600), rounding=True, double_bos=True)
