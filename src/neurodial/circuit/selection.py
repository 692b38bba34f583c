"""How many neurons a circuit takes. Torch-free: the command line reads these too."""

from __future__ import annotations

from dataclasses import dataclass

from neurodial.errors import OptionError


@dataclass(frozen=True)
class Fraction:
    """A share of all MLP neurons of the model, rounded, at least one. The paper takes 0.001.

    Example:
        >>> Fraction(0.001).count(46_080)
        46
    """

    value: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise OptionError(f"The fraction is {self.value}.", wanted="more than 0 and at most 1, such as 0.001")

    def count(self, neurons: int) -> int:
        """The number of neurons to take out of `neurons`."""
        return max(1, round(self.value * neurons))


@dataclass(frozen=True)
class Count:
    """An explicit number of neurons.

    Example:
        >>> Count(10).count(46_080)
        10
    """

    value: int

    def __post_init__(self) -> None:
        if self.value < 1:
            raise OptionError(f"The count is {self.value}.", wanted="at least 1")

    def count(self, neurons: int) -> int:
        """The number of neurons to take; all of them where the model has fewer."""
        return min(self.value, neurons)


Select = Fraction | Count
