"""What an audit of weights found, as a value: for the command, for programs, and as a circuit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.edits.direction import RemovedDirection
from neurodial.errors import CircuitError
from neurodial.provenance import now, versions

Verdict = Literal[
    "identical", "same but for rounding", "neurons scaled", "neurons scaled and more", "a direction was removed",
    "not a neuron scaling", "unclear",
]  # fmt: skip

MEANINGS: dict[str, str] = {
    "identical": "every weight is the base's, bit for bit",
    "same but for rounding": "every weight is the base's, rounded to the candidate's types",
    "neurons scaled": "single neurons were scaled, and nothing else changed",
    "neurons scaled and more": "single neurons were scaled, and other parts than MLPs changed too",
    "a direction was removed": "one direction was taken out of what the model writes, as abliteration does",
    "not a neuron scaling": "the weights changed in another way, as by fine-tuning",
    "unclear": "weights differ that are stored in types whose rounding has no bound",
}


@dataclass(frozen=True)
class ScaledNeuron:
    """A neuron whose weights were scaled.

    Attributes:
        layer: of which block.
        index: in its layer.
        multiplier: what it was multiplied by, in the middle of what the numbers allow.
        error: how far the true multiplier may lie from that.
        parts: where: down (its column), up (its row), gate (its row).
        dose: the dose that does the same at dial 1; None where the edit is before the activation function, which
            bends it.
    """

    layer: int
    index: int
    multiplier: float
    error: float
    parts: tuple[str, ...]
    dose: float | None


@dataclass(frozen=True)
class ChangedPart:
    """Tensors of one kind that changed.

    Attributes:
        title: their name without the block's number.
        layers: how many of them.
        change: norm of the difference divided by the norm of the base, over all of them.
    """

    title: str
    layers: int
    change: float


@dataclass(frozen=True)
class WeightAudit:
    """What was done to a model's weights.

    Attributes:
        base: the base's label.
        candidate: the edited copy's.
        form: what the candidate is.
        verdict: in a few words.
        tensors: how many are equal, rounded, changed, unknown, or could not be compared.
        neurons: those that were scaled; only where that explains every change in the MLPs.
        direction: what was removed, where that explains every change.
        changed: what changed, by kind of tensor.
        notes: what was not compared, and why.

    Example:
        >>> audit = WeightAudit("a", "b", "gguf", "identical", {"equal": 2}, (), None, (), ())
        >>> audit.as_json()["meaning"]
        "every weight is the base's, bit for bit"
    """

    base: str
    candidate: str
    form: str
    verdict: Verdict
    tensors: dict[str, int]
    neurons: tuple[ScaledNeuron, ...]
    direction: RemovedDirection | None
    changed: tuple[ChangedPart, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        value = asdict(self)
        value["meaning"] = MEANINGS[self.verdict]
        if self.direction is not None:
            value["direction"]["share"] = self.direction.share
        return value

    def circuit(self, name: str = "audited") -> Circuit:
        """The scaling as a circuit: at dial 1 it does to the base what the edit did.

        Raises:
            CircuitError: no neurons were scaled, or one before its activation function, which no dose does.
        """
        if not self.neurons:
            raise CircuitError(
                f"There is no circuit in this edit: {MEANINGS[self.verdict]}.", wanted="an edit that scales neurons"
            )
        gated = [row for row in self.neurons if row.dose is None]
        if gated:
            raise CircuitError(
                f"{len(gated)} neurons were scaled before their activation function, such as layer {gated[0].layer}, "
                f"index {gated[0].index}: it bends that, so no dose does the same.",
                wanted="neurons scaled where they write, or at the up row of a gated MLP",
            )
        rows = [Row(Neuron(row.layer, None, row.index), row.multiplier - 1, 1 - row.multiplier) for row in self.neurons]
        method = {"kind": "audit-weights", "base": self.base, "candidate": self.candidate}
        return Circuit.of(rows, name=name, origin=Origin(method=method, versions=versions(), created=now()))
