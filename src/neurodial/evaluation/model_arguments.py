"""Circuits and dials as the model arguments of other tools: texts, a plus sign between several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from neurodial.circuit.circuit import Circuit
from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.intervention.scale import Scale

LOADING = ("adapter", "circuit", "device", "dial", "dtype", "revision", "trust_remote_code")
"""What a steered model takes in every such tool."""


def scales_of(circuit: str | Sequence[str], dial: float | str | Sequence[float]) -> list[Scale]:
    """Circuits at their dials, from the harness's model arguments.

    Raises:
        OptionError: the numbers of circuits and dials differ, or a dial is no number.

    Example:
        >>> scales_of("", 1.0)
        []
    """
    files = circuit.split("+") if isinstance(circuit, str) else list(circuit)
    files = [file for file in files if file]
    given = str(dial).split("+") if isinstance(dial, str | int | float) else list(map(str, dial))
    try:
        dials = [float(value) for value in given]
    except ValueError as error:
        raise OptionError(f"The dial is {dial!r}.", wanted="a number, or several as in dial=0.5+1") from error
    dials = dials * len(files) if len(dials) == 1 else dials
    if len(dials) != len(files):
        counts = f"There are {len(files)} circuits and {len(dials)} dials."
        raise OptionError(counts, wanted="one dial, or one for each")
    return [Scale(Circuit.read(Path(file)), value) for file, value in zip(files, dials, strict=True)]


def refuse_unknown(given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse a model argument that would be passed over.

    Raises:
        UnknownNameError: offers near names.

    Example:
        >>> refuse_unknown(["batch_size"], ["batch_size"])
    """
    for name in given:
        if name not in known:
            near = near_names(name, [*LOADING, *known])
            raise UnknownNameError(f"The model neurodial has no argument {name!r}.", fix=near)


def described(scales: Sequence[Scale]) -> list[dict[str, object]]:
    """What a tool's log keeps of circuits and dials.

    Example:
        >>> described([Scale(Circuit.of([], name="mine"), 0.5)])
        [{'name': 'mine', 'neurons': 0, 'dial': 0.5}]
    """
    return [{"name": scale.circuit.name, "neurons": len(scale.circuit), "dial": scale.dial} for scale in scales]
