"""Options of an evaluation, shared by the commands that measure. Torch-free, so that help is quick."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from neurodial.cli.declared import Given, command_options
from neurodial.evaluation.options import Evaluation
from neurodial.options import changed

if TYPE_CHECKING:
    MeasureOptions: TypeAlias = Given
else:
    MeasureOptions = command_options(
        "MeasureOptions", {"evaluation": Evaluation()}, shared="Measuring", module=__name__
    )
"""What is measured, and on how many prompts: the fields of `Evaluation`, and of the values within it."""


def evaluation_of(given: Given | None, start: Evaluation | None = None) -> Evaluation:
    """The library's options: `start`, changed by the typed options.

    Raises:
        OptionError: a value is not valid.
    """
    return changed(start or Evaluation(), {} if given is None else given.values(), title="Evaluation")


def parts(text: str) -> tuple[str, ...]:
    """The items of a list between commas.

    Example:
        >>> parts("caa, random")
        ('caa', 'random')
    """
    return tuple(item.strip() for item in text.split(",") if item.strip())
