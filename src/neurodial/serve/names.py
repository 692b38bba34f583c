"""Model names: the base, and each circuit at a dial.

`demo` is the unsteered model; `refusal` the circuit at its own dial; `refusal@0.5` at another; `demo:refusal@0.5` the
same, for clients that want the base in the name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurodial.circuit.circuit import Circuit
from neurodial.errors import OptionError, near_names
from neurodial.serve.failure import ApiError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ServedCircuit:
    """A circuit as the server offers it: its neurons, and its dial where a request names none."""

    circuit: Circuit
    dial: float = 1.0


@dataclass(frozen=True)
class ModelNames:
    """What a request may name.

    Attributes:
        base: the name of the unsteered model.
        circuits: by name.
        max_dial: the largest size of a circuit's dial.

    Raises:
        OptionError: a name has signs that model names can't have, is the base's, or a circuit's own dial is too large.

    Example:
        >>> model_names = ModelNames("demo", {"refusal": ServedCircuit(Circuit(()))})
        >>> model_names.dials("refusal@0.5", [("refusal", 0.25)])
        (0.75,)
    """

    base: str
    circuits: Mapping[str, ServedCircuit]
    max_dial: float = 8.0

    def __post_init__(self) -> None:
        for name, served in self.circuits.items():
            if not _NAME.fullmatch(name) or name == self.base:
                raise OptionError(
                    f"A circuit is named {name!r}.",
                    wanted=f"letters, digits, dots, dashes and underscores, and not {self.base!r}, the model's name",
                    fix="Name it: --circuit NAME=FILE.",
                )
            if not abs(served.dial) <= self.max_dial:
                raise OptionError(
                    f"The circuit {name!r} has the dial {served.dial:g}.", wanted=self._range, fix="See --max-dial."
                )

    def dials(self, model: str, more: Sequence[tuple[str, float | None]] = ()) -> tuple[float, ...]:
        """The dial of each circuit, in order, that a model's name and further circuits add up to.

        Raises:
            ApiError: 404 for an unknown name, 400 for a dial that is not a number or too large.
        """
        total = dict.fromkeys(self.circuits, 0.0)
        named = [] if model == self.base else [self._split(model)]
        for place, (name, dial) in enumerate([*named, *more]):
            param = "model" if place < len(named) else "circuits"
            if name not in self.circuits:
                raise self._unknown(model if param == "model" else name, param)
            own = self.circuits[name].dial if dial is None else dial
            total[name] += self._checked(own, name, param)
        for name, dial in total.items():
            self._checked(dial, name, "circuits" if more else "model")
        return tuple(total.values())

    def entries(self, created: int) -> list[dict[str, Any]]:
        """The models as `/v1/models` lists them."""
        return [self._entry(self.base, None, created), *(self.entry(name, created) for name in self.circuits)]

    def entry(self, model: str, created: int) -> dict[str, Any]:
        """One model, under the name that was asked for.

        Raises:
            ApiError: 404, or 400 for the dial.
        """
        dials = dict(zip(self.circuits, self.dials(model), strict=True))
        if model == self.base:
            return self._entry(model, None, created)
        return self._entry(
            model, {name: dial for name, dial in dials.items() if name == self._split(model)[0]}, created
        )

    def _entry(self, model: str, dials: dict[str, float] | None, created: int) -> dict[str, Any]:
        parent = None if dials is None else self.base
        entry = {"id": model, "object": "model", "created": created, "owned_by": "neurodial"}
        return {**entry, "root": self.base, "parent": parent, "dials": dials or {}}

    def _split(self, model: str) -> tuple[str, float | None]:
        text = model.removeprefix(f"{self.base}:")
        name, at, dial = text.partition("@")
        if not at:
            return name, None
        try:
            return name, float(dial)
        except ValueError:
            raise ApiError(
                400,
                f"The dial of {model!r} is {dial!r}. Wanted: a number, as in {name}@0.5.",
                param="model",
                code="dial",
            ) from None

    def _checked(self, dial: float, name: str, param: str) -> float:
        if not math.isfinite(dial) or abs(dial) > self.max_dial:
            message = f"The dial of {name!r} is {dial}. Wanted: {self._range}."
            raise ApiError(400, message, param=param, code="dial")
        return dial

    @property
    def _range(self) -> str:
        return f"a number from -{self.max_dial:g} to {self.max_dial:g}"

    def _unknown(self, name: str, param: str) -> ApiError:
        hint = near_names(name[:100], [self.base, *self.circuits])
        return ApiError(404, f"There is no model {name[:100]!r}. {hint}", param=param, code="model_not_found")
