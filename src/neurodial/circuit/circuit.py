"""A circuit: which neurons, how strongly each scored, the dose of each, and the circuit's origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from neurodial.circuit.prompt_condition import PromptCondition
from neurodial.circuit.report import DoseReport
from neurodial.circuit.site import Neuron, Site
from neurodial.errors import CircuitError
from neurodial.prompts.pairs import Direction
from neurodial.provenance import ModelIdentity


class Row(NamedTuple):
    """One neuron of a circuit with its signed score and its dose.

    Attributes:
        neuron: which.
        score: of the method that found it.
        dose: at dial 1 it is multiplied by 1 - dose.
        visits: of a routed expert's neuron, on how many positive and on how many negative prompts a token that was read
            went to its expert; None for dense ones, and where that was not counted.

    Example:
        >>> import neurodial as nd
        >>> len(nd.Circuit.of([Row(nd.Neuron(layer=0, expert=None, index=3), score=1.0, dose=1.0)]))
        1
    """

    neuron: Neuron
    score: float
    dose: float
    visits: tuple[int, int] | None = None


@dataclass(frozen=True)
class Stability:
    """How little the choice of neurons depends on single prompts (a jackknife over prompt folds).

    Attributes:
        overlaps: for each left-out fold, the share of the circuit that is chosen again without it.
        kept: for each neuron of the circuit, in its order, the share of folds that choose it again.
    """

    overlaps: tuple[float, ...]
    kept: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean overlap over the folds."""
        return sum(self.overlaps) / len(self.overlaps)


@dataclass(frozen=True)
class Origin:
    """How a circuit was made: everything needed to make it again.

    Attributes:
        model: the model it was found on, or None where it was built by hand.
        method: every option of the method, by name.
        prompts: name, hash and counts of the prompts.
        universal: what the universal-neuron filter did, or None where there was none.
        versions: package versions.
        seed: the seed, where one was used.
        created: when, ISO 8601, UTC.
        report: what the method predicted and measured, where it measures.
        behaviour: the behaviour's name, where it has one.
        margin: the margin that the method pushed, where it uses one: its kind, and its openings as text and tokens.
        engine: the engine that ran the model, where it was not transformers: name, version, quantisation, sizes.
    """

    model: ModelIdentity | None = None
    method: Mapping[str, Any] = field(default_factory=dict)
    prompts: Mapping[str, Any] = field(default_factory=dict)
    universal: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    created: str = ""
    report: DoseReport | None = None
    behaviour: str | None = None
    margin: Mapping[str, Any] | None = None
    engine: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Circuit:
    """Neurons with scores and doses, in the order (layer, expert, index), and their origin.

    At dial `d` neuron j is multiplied by `1 - d * dose_j`. `direction` says what dial 1 does to the behaviour. With a
    `condition` the circuit acts only on prompts on which that holds.

    Example:
        >>> from neurodial.circuit.circuit import Row
        >>> from neurodial.circuit.site import Neuron
        >>> circuit = Circuit.of([Row(Neuron(3, None, 7), 2.5, 1.0), Row(Neuron(1, None, 0), -1.0, 1.0)])
        >>> len(circuit), circuit.rows[0].neuron.layer, len(circuit.top(1))
        (2, 1, 1)

    Raises:
        CircuitError: a neuron is listed twice or out of order, or a score or dose is not finite.
    """

    rows: tuple[Row, ...]
    name: str = "circuit"
    direction: Direction = "remove"
    origin: Origin = field(default_factory=Origin)
    stability: Stability | None = None
    condition: PromptCondition | None = None

    def __post_init__(self) -> None:
        neurons = [row.neuron for row in self.rows]
        if len(set(neurons)) != len(neurons):
            raise CircuitError("A neuron is listed twice in the circuit.", fix="Unite circuits with `|`, not by hand.")
        if neurons != sorted(neurons, key=lambda neuron: neuron.order):
            raise CircuitError("The neurons are not in order.", fix="Build circuits with Circuit.of(rows).")
        for row in self.rows:
            if not (abs(row.score) < float("inf") and abs(row.dose) < float("inf")):
                raise CircuitError(f"{row.neuron} has score {row.score} and dose {row.dose}.", wanted="finite numbers")

    @classmethod
    def of(cls, rows: Iterable[Row], **fields: Any) -> Circuit:
        """A circuit of rows in any order; the other fields by keyword."""
        return cls(tuple(sorted(rows, key=lambda row: row.neuron.order)), **fields)

    @classmethod
    def read(cls, path: str | Path) -> Circuit:
        """A circuit from its file."""
        from neurodial.circuit.file import read_circuit

        return read_circuit(path)

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the circuit's file, atomically."""
        from neurodial.circuit.file import write_circuit

        return write_circuit(self, path, overwrite=overwrite)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __contains__(self, neuron: object) -> bool:
        return neuron in self.neurons

    @property
    def neurons(self) -> frozenset[Neuron]:
        """The neurons as a set."""
        return frozenset(row.neuron for row in self.rows)

    @property
    def sites(self) -> dict[Site, tuple[Row, ...]]:
        """Rows by the MLP they belong to, in order."""
        grouped: dict[Site, list[Row]] = {}
        for row in self.rows:
            grouped.setdefault(row.neuron.site, []).append(row)
        return {site: tuple(rows) for site, rows in grouped.items()}

    def top(self, count: int) -> Circuit:
        """The `count` neurons of largest absolute score; ties by (layer, expert, index).

        Raises:
            CircuitError: the count is negative.
        """
        if count < 0:
            raise CircuitError(f"The count is {count}.", wanted="0 or more")
        ranked = sorted(self.rows, key=lambda row: (-abs(row.score), row.neuron.order))
        return self._with(ranked[:count])

    def in_layers(self, layers: Iterable[int]) -> Circuit:
        """The neurons in the given layers."""
        chosen = set(layers)
        return self._with(row for row in self.rows if row.neuron.layer in chosen)

    def with_doses(self, dose: float) -> Circuit:
        """The same neurons, every dose set to `dose`."""
        return replace(self, rows=tuple(row._replace(dose=dose) for row in self.rows))

    def __or__(self, other: Circuit) -> Circuit:
        """Neurons of either; where both have one, the row of the left.

        Raises:
            CircuitError: they are of models of different shape, or have different conditions.
        """
        self._same_model(other)
        if self.condition != other.condition:
            raise CircuitError(
                f"The circuits {self.name!r} and {other.name!r} act on different prompts.",
                wanted="circuits with the same condition, or none",
                fix="Steer with both instead of uniting them: each keeps its own condition.",
            )
        return self._with([*self.rows, *(row for row in other.rows if row.neuron not in self.neurons)])

    def __and__(self, other: Circuit) -> Circuit:
        """Neurons of both, with the rows of the left."""
        self._same_model(other)
        return self._with(row for row in self.rows if row.neuron in other.neurons)

    def __sub__(self, other: Circuit) -> Circuit:
        """Neurons of the left that the right lacks."""
        self._same_model(other)
        return self._with(row for row in self.rows if row.neuron not in other.neurons)

    def _with(self, rows: Iterable[Row]) -> Circuit:
        return Circuit.of(rows, name=self.name, direction=self.direction, origin=self.origin, condition=self.condition)

    def _same_model(self, other: Circuit) -> None:
        mine, theirs = self.origin.model, other.origin.model
        if mine is not None and theirs is not None and not mine.has_shape_of(theirs):
            raise CircuitError(
                f"The circuits {self.name!r} and {other.name!r} are of models of different shape.",
                wanted="circuits whose models have the same neurons",
            )
