"""The methods by the names that users type. Torch-free."""

from __future__ import annotations

from collections.abc import Callable

from neurodial.errors import UnknownNameError, near_names
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
