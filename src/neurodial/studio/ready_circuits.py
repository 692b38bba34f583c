"""Circuits that come with the package, so that a studio on the demo's models opens with something to turn."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.file import read_circuit
from neurodial.errors import NeurodialError
from neurodial.intervention.scale import check_fits
from neurodial.model.subject import Subject

_ENDING = ".circuit.json"


def ready_files() -> list[Path]:
    """The files, the one to open with first."""
    folder = Path(str(resources.files("neurodial.studio"))) / "ready"
    return sorted(folder.glob(f"*{_ENDING}"), key=lambda path: path.name.removesuffix(_ENDING))


def ready_circuits(subject: Subject) -> dict[str, Circuit]:
    """Those that were made on this very model, by name; none for most models.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> ready_circuits(tiny_subject())
        {}
    """
    read = {path.name.removesuffix(_ENDING): read_circuit(path) for path in ready_files()}
    return {name: circuit for name, circuit in read.items() if _fits(circuit, subject)}


def _fits(circuit: Circuit, subject: Subject) -> bool:
    try:
        check_fits(circuit, subject)
    except NeurodialError:
        return False  # made on another model: nothing is wrong with either
    return True
