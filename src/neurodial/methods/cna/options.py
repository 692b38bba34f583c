"""The options of contrastive neuron attribution, with every default in one place. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from neurodial.activations.position import POSITION_SPELLING, Last, Position
from neurodial.circuit.selection import SELECT_SPELLING, Count, Fraction, Select
from neurodial.errors import OptionError
from neurodial.methods.base import Sign, check_choices, prompt_list_names
from neurodial.options import noted

Score = Literal["delta", "standardised", "auroc"]


@dataclass(frozen=True)
class UniversalFilter:
    """Neurons that are among the most active on almost any prompt, and are left out of circuits.

    Attributes:
        prompts: list of diverse prompts on which universal neurons are found, a name or a file; none: no filter.
        fraction: the share of all neurons that counts as most active on one prompt.
        share: the share of prompts on which a neuron must be among them to be flagged.

    Example:
        >>> UniversalFilter(share=0.9).prompts
        'diverse'
    """

    prompts: str = field(default="diverse", metadata=noted(name="universal", listed=prompt_list_names))
    fraction: float = field(default=0.001, metadata=noted(name="universal_fraction"))
    share: float = field(default=0.8, metadata=noted(name="universal_share"))

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
        select: the rule of selection: which neurons are taken by the size of their scores, out of all layers together.
        skip_layers: layers left out, such as 0,1.
        universal: the filter of universal neurons, or None.
        folds: number of prompt folds for the stability measure; 0 for none.
        system: a system message before every prompt.
        as_published: compute as the public code does, as `CNA.reference()` says; no option of its own.

    Example:
        >>> CNA(score="standardised").select
        Fraction(value=0.001)
    """

    score: Score = "delta"
    sign: Sign = "both"
    position: Position = field(default_factory=Last, metadata=noted(spelling=POSITION_SPELLING))
    select: Select = field(default_factory=Fraction, metadata=noted(spelling=SELECT_SPELLING))
    skip_layers: tuple[int, ...] = ()
    universal: UniversalFilter | None = field(default_factory=UniversalFilter)
    folds: int = 10
    system: str | None = None
    as_published: bool = field(default=False, metadata=noted(is_hidden=True))

    def __post_init__(self) -> None:
        check_choices(self, score=Score, sign=Sign)
        if self.folds < 0 or self.folds == 1:
            raise OptionError(f"The number of folds is {self.folds}.", wanted="0 for none, or 2 and more")
        if self.as_published and self.score != "delta":
            raise OptionError(f"The public code knows no score {self.score}.", wanted="score delta, or method cna")

    @classmethod
    def reference(cls) -> CNA:
        """What the public code does, each difference from the paper on purpose.

        Layers 0 and 1 are dropped, no universal neurons are filtered, 1600 neurons are taken from a model of any
        size, activations and means are rounded to bfloat16, and the rendered template is tokenised again, which
        doubles the beginning-of-sequence token where the tokenizer adds one.
        """
        return cls(skip_layers=(0, 1), universal=None, select=Count(1600), as_published=True)
