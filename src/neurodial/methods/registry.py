"""The methods by the names that users type. Torch-free."""

from __future__ import annotations

from collections.abc import Callable

from neurodial.errors import UnknownNameError, near_names
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.options import Dose

METHODS: dict[str, Callable[[], CNA | Dose]] = {"cna": CNA, "cna-reference": CNA.reference, "dose": Dose}
"""Methods by the name that the command line takes, each a function that gives its preset."""

METHOD_WORDS = {
    "cna": "activations that differ; one pass (the paper)",
    "cna-reference": "every difference of the paper's public code",
    "dose": "effect against cost, a measured dose for each neuron; needs gradients",
}
"""What each method is, in a few words."""


def method(name: str) -> CNA | Dose:
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


def presets() -> dict[str, CNA | Dose]:
    """One preset of each class of options, by the first name that gives one: what options are derived from."""
    found: dict[type, tuple[str, CNA | Dose]] = {}
    for name, make in METHODS.items():
        preset = make()
        found.setdefault(type(preset), (name, preset))
    return dict(found.values())
