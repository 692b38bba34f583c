"""What is compared: every intervention at every dial, beside the unsteered model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from neurodial.circuit.circuit import Circuit
from neurodial.errors import OptionError, OverlapError
from neurodial.evaluation.baselines import Baseline
from neurodial.evaluation.results import condition_key
from neurodial.intervention.base import Intervention, Together, at_dial
from neurodial.intervention.scale import Scale
from neurodial.prompts.prompt import Prompt, prompt_digest, prompt_text, words_digest
from neurodial.provenance import canonical_json, describe, sha256


@dataclass(frozen=True, eq=False)
class Condition:
    """One way to answer.

    Attributes:
        method: the kind: `circuit`, `unsteered`, or another method's name.
        label: its name in tables.
        dial: 0 for the unsteered model.
        intervention: what is put on the model; None for the unsteered model and for system prompts.
        system: a system prompt of its own.
        details: what was chosen for it.
    """

    method: str
    label: str
    dial: float
    intervention: Intervention | None = None
    system: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What its rows are stored under."""
        return condition_key(self.method, self.label, self.dial)


UNSTEERED = Condition("unsteered", "unsteered", 0.0)


def own_conditions(interventions: Sequence[Intervention]) -> list[Condition]:
    """A condition for each of the user's interventions, in order; those at dial 0 are the unsteered model already.

    Raises:
        OptionError: an intervention has a list of dials, or two are the same.
    """
    conditions = []
    for intervention in interventions:
        dial = _dial(intervention)
        if dial != 0:
            conditions.append(
                Condition("circuit", _label(intervention), dial, intervention, details=_found_by(intervention))
            )
    twice = [key for key, count in Counter(condition.key for condition in conditions).items() if count > 1]
    if twice:
        raise OptionError(f"{twice[0]} stands twice.", wanted="each intervention once", fix="Name the circuits apart.")
    return conditions


def baseline_conditions(baseline: Baseline, dials: Sequence[float]) -> list[Condition]:
    """Another method at every dial; a system prompt only says yes or no, so it has dial 1 and -1."""
    if baseline.prompts is None:
        assert baseline.intervention is not None  # noqa: S101  # it has one of the two
        base = baseline.intervention
        return [
            Condition(baseline.name, baseline.label, dial, at_dial(base, dial), details=baseline.details)
            for dial in dials
            if dial != 0
        ]
    remove, induce = baseline.prompts
    ends = [(1.0, remove)] * any(dial > 0 for dial in dials) + [(-1.0, induce)] * any(dial < 0 for dial in dials)
    return [Condition("prompt", baseline.label, dial, system=text, details=baseline.details) for dial, text in ends]


def circuits_of(interventions: Sequence[Intervention]) -> list[Circuit]:
    """The circuits that interventions scale, each once."""
    circuits: list[Circuit] = []
    for intervention in interventions:
        parts = intervention.parts if isinstance(intervention, Together) else (intervention,)
        circuits += [part.circuit for part in parts if isinstance(part, Scale) and part.circuit not in circuits]
    return circuits


def refuse_seen(circuits: Sequence[Circuit], prompts: Sequence[Prompt]) -> None:
    """Refuse to test on prompts that a circuit was found with.

    Raises:
        OverlapError: names the circuit and the prompts.
    """
    for circuit in circuits:
        seen = set(circuit.origin.prompts.get("digests", ()))
        if circuit.condition is not None:
            seen |= set(circuit.condition.prompts.get("digests", ()))
        digest = prompt_digest if circuit.origin.prompts.get("roles") else words_digest
        shared = [prompt_text(prompt) for prompt in prompts if digest(prompt) in seen]
        if shared:
            shown = "; ".join(repr(text) for text in shared[:3])
            raise OverlapError(
                f"{len(shared)} test prompts were used to discover {circuit.name!r}, such as {shown}.",
                wanted="test prompts that discovery has not seen",
                fix="Test on another split or another set.",
            )


def identify(value: Any) -> Any:
    """An intervention as plain values: tensors and circuits by a hash of what they hold.

    Example:
        >>> from neurodial.circuit.circuit import Row
        >>> from neurodial.circuit.site import Neuron
        >>> identify(Scale(Circuit.of([Row(Neuron(0, None, 1), 1.0, 1.0)]), dial=0.5))["dial"]
        0.5
    """
    if isinstance(value, Tensor):
        return sha256(value.detach().cpu().double().contiguous().numpy().tobytes())
    if isinstance(value, Circuit):
        rows = [[row.neuron.layer, row.neuron.expert, row.neuron.index, row.dose] for row in value]
        known = {"name": value.name, "neurons": len(rows), "hash": sha256(canonical_json(rows))}
        return known if value.condition is None else {**known, "condition": describe(value.condition)}
    if isinstance(value, Intervention):
        fields = {name: identify(field) for name, field in vars(value).items()}
        return {"kind": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [identify(item) for item in value]
    return describe(value)


def _dial(intervention: Intervention) -> float:
    parts = intervention.parts if isinstance(intervention, Together) else (intervention,)
    dials = {part.dial for part in parts if not isinstance(part.dial, Sequence)}
    if any(isinstance(part.dial, Sequence) for part in parts):
        raise OptionError("An intervention has a list of dials.", wanted="one intervention for each dial")
    return float(max(dials, key=abs, default=0.0))


def _found_by(intervention: Intervention) -> dict[str, Any]:
    """How many neurons a circuit has, and what found them; of several together, nothing."""
    if not isinstance(intervention, Scale):
        return {}
    method = intervention.circuit.origin.method
    return {"neurons": len(intervention.circuit), "found_by": describe(method) if method else "by hand"}


def _label(intervention: Intervention) -> str:
    parts = intervention.parts if isinstance(intervention, Together) else (intervention,)
    names = [part.circuit.name if isinstance(part, Scale) else type(part).__name__ for part in parts]
    return " + ".join(names) or "nothing"
