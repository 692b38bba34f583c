"""The options of a condition on the prompt, with every default in one place. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.circuit.prompt_condition import ReadingKind
from neurodial.errors import OptionError
from neurodial.methods.base import check_choices


@dataclass(frozen=True)
class ConditionOptions:
    """How a condition is made.

    Attributes:
        reading: mean: of the circuit's neurons, each with the sign of its difference between the sides. projection:
            of their activations on these differences. direction: of the residual stream on the difference of the
            sides' means, after the block that tells development prompts apart best.
        false_positive_rate: at most this share of the other side's development prompts may pass.

    Example:
        >>> ConditionOptions(false_positive_rate=0.05).reading
        'direction'
    """

    reading: ReadingKind = "direction"
    false_positive_rate: float = 0.01

    def __post_init__(self) -> None:
        check_choices(self, reading=ReadingKind)
        if not 0 <= self.false_positive_rate < 1:
            raise OptionError(
                f"The false positive rate is {self.false_positive_rate}.", wanted="a share from 0 to below 1"
            )
