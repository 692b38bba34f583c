"""Rules of selection: which neurons, or neurons at tokens, are chosen by their strength. Only choosing needs torch.

A rule is a frozen dataclass with one value. `SELECTION_RULES` lists them all; the library, the command line, traces and
the studio read that list, so a rule in it can be typed everywhere as `name:value`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, ClassVar, get_type_hints

from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.options import SpelledForm, Spelling

if TYPE_CHECKING:
    from torch import Tensor


class Select(ABC):
    """A rule of selection: from the strengths of all places to the chosen places.

    Attributes:
        name: what users type before the value, as in `fraction:0.001`.
        meaning: the rule in a few words, for help and forms.
        value: the value after the name; a whole number where a rule declares it so.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    value: float

    @abstractmethod
    def choose(self, strength: Tensor, layers: Tensor, *, whole: float | None = None) -> Tensor:
        """The chosen places, best first; ties go to the smaller place.

        Args:
            strength: of every place, in the order (layer, expert, index) or (layer, token, index); minus infinity
                where a place may not be chosen.
            layers: the layer of every place.
            whole: what the strengths are parts of, where they are parts of something: for a trace the target's value.
        """


@dataclass(frozen=True)
class Fraction(Select):
    """A share of all MLP neurons of the model, rounded, at least one. The paper takes 0.001.

    Example:
        >>> Fraction(0.001).count(46_080)
        46
    """

    name: ClassVar[str] = "fraction"
    meaning: ClassVar[str] = "a share of all, those that may not be taken counted too; the paper takes 0.001"
    value: float = 0.001

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise OptionError(f"The fraction is {self.value}.", wanted="more than 0 and at most 1, such as 0.001")

    def count(self, neurons: int) -> int:
        """The number of neurons to take out of `neurons`."""
        return max(1, round(self.value * neurons))

    def choose(self, strength: Tensor, layers: Tensor, *, whole: float | None = None) -> Tensor:  # noqa: ARG002 - as all
        """The strongest, as many as this share of all places."""
        return strongest(strength, self.count(strength.numel()))


@dataclass(frozen=True)
class Count(Select):
    """An explicit number of neurons.

    Example:
        >>> Count(10).count(46_080)
        10
    """

    name: ClassVar[str] = "count"
    meaning: ClassVar[str] = "so many"
    value: int

    def __post_init__(self) -> None:
        if self.value < 1:
            raise OptionError(f"The count is {self.value}.", wanted="at least 1")

    def count(self, neurons: int) -> int:
        """The number of neurons to take; all of them where the model has fewer."""
        return min(self.value, neurons)

    def choose(self, strength: Tensor, layers: Tensor, *, whole: float | None = None) -> Tensor:  # noqa: ARG002
        """The strongest, as many as the value says."""
        return strongest(strength, self.value)


@dataclass(frozen=True)
class Threshold(Select):
    """All whose strength is at least this share of the strongest's; in a trace, of the target's value.

    Strength and value are taken without their sign.

    Example:
        >>> Threshold(0.01).value
        0.01
    """

    name: ClassVar[str] = "threshold"
    meaning: ClassVar[str] = "all with at least this share of the strongest's score (in a trace: of the target's value)"
    value: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.value < float("inf"):
            raise OptionError(f"The threshold is {self.value}.", wanted="more than 0, such as 0.01")

    def choose(self, strength: Tensor, layers: Tensor, *, whole: float | None = None) -> Tensor:  # noqa: ARG002
        """Those from the share on; none where the share of a `whole` is above every strength."""
        if strength.numel() == 0:
            return strongest(strength, 0)
        least = self.value * (float(strength.max()) if whole is None else abs(whole))
        return strongest(strength, int((strength >= least).sum()))


@dataclass(frozen=True)
class PerLayer(Select):
    """A number in each layer, all experts of a layer together.

    Example:
        >>> PerLayer(2).value
        2
    """

    name: ClassVar[str] = "per-layer"
    meaning: ClassVar[str] = "so many in each layer"
    value: int

    def __post_init__(self) -> None:
        if self.value < 1:
            raise OptionError(f"The number in each layer is {self.value}.", wanted="at least 1")

    def choose(self, strength: Tensor, layers: Tensor, *, whole: float | None = None) -> Tensor:  # noqa: ARG002
        """The strongest of each layer; together in the order of their strength."""
        import torch

        chosen = torch.full_like(strength, -torch.inf)
        for layer in layers.unique().tolist():
            inside = (layers == layer).nonzero()[:, 0]
            places = inside[strongest(strength[inside], self.value)]
            chosen[places] = strength[places]
        return strongest(chosen, chosen.numel())


@dataclass(frozen=True)
class Mass(Select):
    """The fewest that hold this share of all strength, of those that may be taken.

    Example:
        >>> Mass(0.85).value
        0.85
    """

    name: ClassVar[str] = "mass"
    meaning: ClassVar[str] = "the fewest that hold this share of all scores, signs left out"
    value: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise OptionError(f"The share of all strength is {self.value}.", wanted="more than 0 and at most 1")

    def choose(self, strength: Tensor, layers: Tensor, *, whole: float | None = None) -> Tensor:  # noqa: ARG002
        """The strongest until they hold the share; a sum that is too small only by rounding is enough."""
        order = strongest(strength, strength.numel())
        held = strength[order].cumsum(0)
        if held.numel() == 0:
            return order
        return order[: 1 + int((held < self.value * float(held[-1]) * (1 - 1e-12)).sum())]


SELECTION_RULES: list[type[Select]] = [Fraction, Count, Threshold, PerLayer, Mass]
"""All rules."""


def value_type(rule: type[Select]) -> type[int] | type[float]:
    """Whether a rule's value is a whole number.

    Example:
        >>> value_type(PerLayer)
        <class 'int'>
    """
    kind: type[int] | type[float] = get_type_hints(rule)["value"]
    return kind


def default_value(rule: type[Select]) -> int | float | None:
    """The value that a rule has where none is given; None where it needs one.

    Example:
        >>> default_value(Fraction), default_value(Count)
        (0.001, None)
    """
    [field] = [field for field in fields(rule) if field.name == "value"]  # type: ignore[arg-type]  # each is a dataclass
    return None if field.default is MISSING else field.default


def parse_select(text: str) -> Select:
    """A rule as the user writes it: `fraction:0.001`, `count:46`, `threshold:0.1`, `per-layer:2`, `mass:0.5`.

    Example:
        >>> parse_select("per-layer:2")
        PerLayer(value=2)

    Raises:
        UnknownNameError: there is no such rule; offers near names.
        OptionError: the value is not a number, or is out of range.
    """
    name, colon, value = text.strip().partition(":")
    rules = {rule.name: rule for rule in SELECTION_RULES}
    if name not in rules:
        raise UnknownNameError(f"There is no rule of selection {name!r}.", fix=near_names(name, rules))
    rule = rules[name]
    if not colon and default_value(rule) is not None:
        return rule()
    kind = value_type(rule)
    try:
        number = kind(value)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise OptionError(f"The selection is {text!r}.", wanted=f"{expected} after {name}:") from None
    return rule(number)  # type: ignore[call-arg]  # each is a dataclass of one value


def show_select(select: Select) -> str:
    """A rule as users type it, so that reading it gives the same rule.

    Example:
        >>> show_select(Fraction())
        'fraction:0.001'
    """
    return f"{select.name}:{select.value}"


def _forms() -> list[SpelledForm]:
    return [
        SpelledForm(rule.name, rule.meaning, value_type(rule), default_value(rule) or value_type(rule)(10))
        for rule in SELECTION_RULES
    ]


SELECT_SPELLING = Spelling(parse_select, show_select, "RULE:VALUE", _forms)
"""How a rule is written among a method's options."""


def strongest(strength: Tensor, count: int) -> Tensor:
    """The places of the largest values, best first; ties go to the smaller place. Only the chosen are sorted.

    Places of strength minus infinity are never among them.

    Example:
        >>> import torch
        >>> strongest(torch.tensor([1.0, 3.0, 2.0, 3.0]), 3).tolist()
        [1, 3, 2]
    """
    import torch

    count = min(count, int((strength > -torch.inf).sum()))
    if count == 0:
        return torch.zeros(0, dtype=torch.long, device=strength.device)
    weakest = strength.topk(count).values[-1]
    candidates = (strength >= weakest).nonzero()[:, 0]
    return candidates[strength[candidates].sort(descending=True, stable=True).indices[:count]]
