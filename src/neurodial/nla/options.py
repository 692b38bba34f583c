"""What is asked of a natural-language autoencoder. Torch-free: the command line reads this too."""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.errors import OptionError


@dataclass(frozen=True)
class Verbalising:
    """How vectors are put into words and scored.

    Attributes:
        samples: texts for each vector; one alone says little, as a verbaliser makes details up.
        max_tokens: the longest text.
        temperature: of the sampling; 0 gives the same text every time.
        seed: of the sampling, and of the choice of controls.
        controls: texts of other activations that are scored against each vector.
        reference: texts whose activations say what the mean is, and how long a vector of this layer is.
        skip: tokens at the start of a text that are left out of the reference: they decode badly.

    Raises:
        OptionError: a number makes no sense.

    Example:
        >>> Verbalising(samples=2).max_tokens
        200
    """

    samples: int = 4
    max_tokens: int = 200
    temperature: float = 1.0
    seed: int = 0
    controls: int = 4
    reference: int = 64
    skip: int = 10

    def __post_init__(self) -> None:
        for name, low in {"samples": 1, "max_tokens": 1, "controls": 1, "reference": 2, "skip": 0}.items():
            if getattr(self, name) < low:
                raise OptionError(f"{name} is {getattr(self, name)}.", wanted=f"{low} or more")
        if not 0 <= self.temperature <= 10:
            raise OptionError(f"temperature is {self.temperature}.", wanted="from 0 to 10")
