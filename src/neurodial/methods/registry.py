"""The methods by the names that users type. Torch-free."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from neurodial.circuit.selection import Select
from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.options import Dose
from neurodial.methods.single.options import Single

Method = CNA | Dose | Single
"""The options of any method of discovery."""

METHODS: dict[str, Callable[[], Method]] = {
    "cna": CNA,
    "cna-reference": CNA.reference,
    "dose": Dose,
    "single": Single,
}
"""Methods by the name that the command line takes, each a function that gives its preset."""

METHOD_WORDS = {
    "cna": "activations that differ; one pass (the paper)",
    "cna-reference": "every difference of the paper's public code",
    "dose": "effect against cost, a measured dose for each neuron; needs gradients",
    "single": "the one neuron that goes furthest within the budget; needs gradients",
}
"""What each method is, in a few words."""


def method(name: str) -> Method:
    """The preset of a method by its name.

    Example:
        >>> method("dose").select
        Fraction(value=0.001)

    Raises:
        UnknownNameError: offers near names.
    """
    if name not in METHODS:
        raise UnknownNameError(f"There is no method {name!r}.", fix=near_names(name, METHODS))
    return METHODS[name]()


def with_select(method: Method, select: Select) -> Method:
    """The method with another rule of selection.

    Raises:
        OptionError: it takes one neuron, whatever the rule.

    Example:
        >>> from neurodial.circuit.selection import Count
        >>> with_select(Dose(), Count(9)).select
        Count(value=9)
    """
    if isinstance(method, Single):
        raise OptionError(f"Method single takes one neuron, not {select}.", wanted="no rule of selection")
    return dataclasses.replace(method, select=select)


def presets() -> dict[str, Method]:
    """One preset of each class of options, by the first name that gives one: what options are derived from."""
    by_class: dict[type, tuple[str, Method]] = {}
    for name, make in METHODS.items():
        preset = make()
        by_class.setdefault(type(preset), (name, preset))
    return dict(by_class.values())
