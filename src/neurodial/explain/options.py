"""What an explanation reads and measures."""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.errors import OptionError


@dataclass(frozen=True)
class Explaining:
    """What an explanation reads and measures.

    Attributes:
        neurons: how many neurons get a part of their own, those of largest absolute score; 0 for all.
        places: texts that are shown for each neuron where it is strongest, in the middle and weakest.
        tokens: tokens that are listed as written and as read.
        prompts: development prompts that the margin is measured on.
        passages: answers to neutral prompts that the damage is measured on.
        answer_tokens: how long the answers are in which the circuit is watched.
        likeness: absolute correlation from which two neurons belong to one group.
        seed: of the texts in the middle.
        measure: whether dials are turned at all: margins, damage and groups take most of the time.

    Raises:
        OptionError: a number makes no sense.

    Example:
        >>> Explaining(neurons=4).places
        4
    """

    neurons: int = 16
    places: int = 4
    tokens: int = 8
    prompts: int = 8
    passages: int = 4
    answer_tokens: int = 16
    likeness: float = 0.5
    seed: int = 0
    measure: bool = True

    def __post_init__(self) -> None:
        least = {"neurons": 0, "places": 1, "tokens": 1, "prompts": 1, "passages": 1, "answer_tokens": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise OptionError(f"{name} is {getattr(self, name)}.", wanted=f"{low} or more")
        if not 0 < self.likeness <= 1:
            raise OptionError(f"likeness is {self.likeness}.", wanted="above 0 and at most 1")
