"""What the methods have in common. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol, get_args, runtime_checkable

from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.prompts.answered import MarginKind
from neurodial.prompts.pairs import Direction

Sign = Literal["both", "positive", "negative"]
"""Which neurons may be chosen, by the sign of their score: of either sign, or only those of one."""


def prompt_list_names() -> Sequence[str]:
    """The prompt lists that ship, looked up when they are asked for: options are read before prompts are."""
    from neurodial.prompts import lists

    return lists.prompt_list_names()


@runtime_checkable  # the tests check types while they run
class SearchOptions(Protocol):
    """What every method says of the search for its strength, whichever neurons it takes.

    What each means stands in `Dose`, whose options these are too.
    """

    @property
    def budget(self) -> float | None: ...
    @property
    def margin_target(self) -> float | None: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def x_max(self) -> float: ...
    @property
    def margin(self) -> MarginKind: ...
    @property
    def neutral(self) -> str: ...
    @property
    def passages(self) -> int | None: ...
    @property
    def answer_tokens(self) -> int: ...
    @property
    def max_degenerate(self) -> float | None: ...
    @property
    def max_broken(self) -> float | None: ...
    @property
    def system(self) -> str | None: ...


def check_choices(options: object, **kinds: object) -> None:
    """Refuse a value that is none of the choices of its option.

    Args:
        options: of a method.
        kinds: for each option, the `Literal` that lists its choices.

    Raises:
        UnknownNameError: offers near names.
    """
    for name, kind in kinds.items():
        value, allowed = getattr(options, name), get_args(kind)
        if value not in allowed:
            raise UnknownNameError(f"The {name} is {value!r}.", fix=near_names(str(value), allowed))


def check_broken(max_degenerate: float | None, max_broken: float | None) -> None:
    """Refuse limits on broken answers that are no numbers from 0 to 1.

    Raises:
        OptionError: names the option and its value.
    """
    for name, value in (("max_degenerate", max_degenerate), ("max_broken", max_broken)):
        if value is not None and not 0 <= value <= 1:
            raise OptionError(f"{name} is {value}.", wanted="a number from 0 to 1, such as 0.05, or none")


def check_search(options: SearchOptions) -> None:
    """Refuse options of a search that make no sense.

    Raises:
        OptionError: names the option and its value.
        UnknownNameError: there is no such direction or margin.
    """
    check_choices(options, direction=Direction, margin=MarginKind)
    if options.margin == "alternatives" and options.direction == "induce":
        raise OptionError(
            "The margin alternatives leads away from a behaviour; the direction is induce.",
            wanted="margin openers or answer to induce",
        )
    if options.budget is not None and not 0 < options.budget < math.inf:
        raise OptionError(f"The budget is {options.budget}.", wanted="nats per token above 0, such as 0.05, or none")
    if options.margin_target is not None and not math.isfinite(options.margin_target):
        raise OptionError(f"The margin target is {options.margin_target}.", wanted="a finite number")
    if not 0 < options.x_max <= 100:
        raise OptionError(f"The largest dose is {options.x_max}.", wanted="more than 0 and at most 100")
    check_broken(options.max_degenerate, options.max_broken)
    for name, value in (("answer_tokens", options.answer_tokens), ("passages", options.passages)):
        if value is not None and value < 1:
            raise OptionError(f"{name} is {value}.", wanted="at least 1")
