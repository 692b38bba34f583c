"""How a model is compared with the one that it was tuned from. Torch-free: the command line reads this too."""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.errors import OptionError


@dataclass(frozen=True)
class ComparingModels:
    """How two models are compared.

    Attributes:
        dial: at which both circuits are put on both models.
        prompts: test prompts that margins are measured on; 0 for all.
        passages: answers to neutral prompts that the damage is measured on.
        answer_tokens: their length.
        tuned_template: render the base's prompts with the tuned model's chat template, which a base model may lack.
        seed: of the random neurons that stand beside the circuits.
        explained: so many neurons, those whose difference changed most, are shown with the tokens that they write and
            read in both models; 0 for none.

    Raises:
        OptionError: a number makes no sense.

    Example:
        >>> ComparingModels(prompts=8).dial
        1.0
    """

    dial: float = 1.0
    prompts: int = 40
    passages: int = 8
    answer_tokens: int = 32
    tuned_template: bool = False
    seed: int = 0
    explained: int = 12

    def __post_init__(self) -> None:
        for name, low in {"prompts": 0, "passages": 1, "answer_tokens": 1, "explained": 0}.items():
            if getattr(self, name) < low:
                raise OptionError(f"{name} is {getattr(self, name)}.", wanted=f"{low} or more")
        if not abs(self.dial) < float("inf"):
            raise OptionError(f"dial is {self.dial}.", wanted="a finite number")
