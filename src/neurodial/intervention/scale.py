"""Scaling and pinning neurons (arXiv 2605.12290, section 3; 2605.08513 for pinning).

At dial `d` neuron j of a circuit is multiplied by `m_j = 1 - d * dose_j` at every token, prompt and generated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.prompt_condition import PromptCondition
from neurodial.circuit.site import Neuron, Site, has_neuron, places
from neurodial.errors import ModelMismatchError, OptionError, SteeringError
from neurodial.intervention.base import Dial, Intervention, check_options, check_parts, dial_column, over, planned
from neurodial.intervention.combine import only_where
from neurodial.intervention.plan import HookPoint, Multiply, Plan, Replace, spread
from neurodial.intervention.when import When
from neurodial.model.subject import Subject
from neurodial.provenance import other_template


@dataclass(frozen=True)
class Scale(Intervention):
    """Multiply each neuron of a circuit by `1 - dial * dose`; only on prompts on which its condition holds, if any.

    Attributes:
        circuit: which neurons, and their doses.
        dial: 0 unsteered, 1 the full circuit, negative for more of the behaviour; one number, or one per row.
        when: which tokens.
        force: steer a model that the circuit was not made on, if the shape allows.

    Example:
        >>> from neurodial.circuit.circuit import Circuit, Row
        >>> from neurodial.circuit.site import Neuron
        >>> circuit = Circuit.of([Row(Neuron(0, None, 3), 1.0, 1.0)])
        >>> Scale(circuit, dial=0.5).dial
        0.5
    """

    circuit: Circuit
    dial: Dial = 1.0
    when: When = "all"
    force: bool = False

    def __post_init__(self) -> None:
        check_options(self.dial, self.when)

    def compile(self, subject: Subject) -> Plan:
        """Doses per site.

        Raises:
            ModelMismatchError: the circuit was made on another model and `force` is false.
            SteeringError: the model has no such neuron.
        """
        check_fits(self.circuit, subject, force=self.force)
        check_parts(self.when, subject)
        column = dial_column(self.dial)
        edits = []
        for site, rows in self.circuit.sites.items():
            doses = torch.zeros(subject.shape(site), dtype=torch.float64)
            doses[places(row.neuron for row in rows)] = torch.tensor([row.dose for row in rows], dtype=torch.float64)
            edit = Multiply(spread(over(column, doses), self.when))
            edits.append((HookPoint("neurons", site.layer, site.routed), edit))
        plan = planned(edits, self.dial, self.when)
        condition = self.circuit.condition
        if condition is None or not bool(column.any()):
            return plan
        check_condition(condition, subject)
        return only_where(plan, condition)


@dataclass(frozen=True)
class Pin(Intervention):
    """Hold neurons at constant values; at dial `d` a neuron moves by the share `d` towards its constant.

    A neuron of a routed expert is held where a token goes to its expert; the routing weight still multiplies it.

    Attributes:
        values: the constant for each neuron.
        dial: 0 unsteered, 1 pinned.
        when: which tokens.

    Raises:
        OptionError: a value is not finite.

    Example:
        >>> from neurodial.circuit.site import Neuron
        >>> Pin({Neuron(0, None, 3): -2.0}).dial
        1.0
    """

    values: Mapping[Neuron, float]
    dial: Dial = 1.0
    when: When = "all"

    def __post_init__(self) -> None:
        check_options(self.dial, self.when)
        for neuron, value in self.values.items():
            if not math.isfinite(value):
                raise OptionError(
                    f"The neuron ({neuron.name}) is pinned to {value}.",
                    wanted="a finite number",
                )

    def compile(self, subject: Subject) -> Plan:
        """Values and shares per site.

        Raises:
            SteeringError: the model has no such neuron.
        """
        check_neurons(self.values, subject)
        check_parts(self.when, subject)
        column = dial_column(self.dial)
        by_site: dict[Site, dict[Neuron, float]] = {}
        for neuron, value in self.values.items():
            by_site.setdefault(neuron.site, {})[neuron] = value
        edits = []
        for site, pinned in by_site.items():
            share = torch.zeros(subject.shape(site), dtype=torch.float64)
            share[places(pinned)] = 1.0
            values = torch.zeros_like(share)
            values[places(pinned)] = torch.tensor(list(pinned.values()), dtype=torch.float64)
            shares = spread(over(column, share), self.when)
            edit = Replace(spread(over(torch.ones_like(column), values), self.when), shares)
            edits.append((HookPoint("neurons", site.layer, site.routed), edit))
        return planned(edits, self.dial, self.when)


def check_fits(circuit: Circuit, subject: Subject, *, force: bool = False) -> None:
    """Refuse a circuit that was made on another model.

    Raises:
        ModelMismatchError: says what differs.
        SteeringError: the model has no such neuron; `force` does not help.
    """
    check_neurons(circuit.neurons, subject)
    made_on = circuit.origin.model
    if made_on is None or force:
        return
    differences = made_on.differences(subject.identity)
    if differences:
        raise ModelMismatchError(
            f"The circuit {circuit.name!r} was made on {made_on.label}, not on {subject.label}: "
            f"{'; '.join(differences)} differ.",
            wanted="the model that it was made on",
            fix="Discover it again on this model, or use --force (force=True).",
        )


def template_notes(circuits: Iterable[Circuit], subject: Subject) -> list[str]:
    """Notes on circuits that were made with other options of the chat template than the model now has."""
    notes = []
    for circuit in circuits:
        made_on = circuit.origin.model
        differs = None if made_on is None else other_template(made_on.setup, subject.setup)
        if differs is not None:
            notes.append(f"The circuit {circuit.name!r} was {differs}.")
    return notes


def check_condition(condition: PromptCondition, subject: Subject) -> None:
    """Refuse a condition whose reading the model does not have.

    Raises:
        SteeringError: names the neuron or the layer.
    """
    check_neurons(frozenset(condition.neurons), subject)
    if condition.layer is not None and (
        condition.layer >= subject.layers or len(condition.weights) != subject.hidden_size
    ):
        raise SteeringError(
            f"The condition reads {len(condition.weights)} numbers after block {condition.layer}.",
            wanted=f"{subject.hidden_size} numbers, blocks 0 to {subject.layers - 1}, as in {subject.label}",
        )


def check_neurons(neurons: Mapping[Neuron, float] | frozenset[Neuron], subject: Subject) -> None:
    """Refuse neurons that the model does not have.

    Raises:
        SteeringError: names the neuron and the model's shape.
    """
    for neuron in neurons:
        is_site = neuron.site in subject.sites
        shape = subject.shape(neuron.site) if is_site else ()
        if not is_site or not has_neuron(shape, neuron):
            raise SteeringError(
                f"{subject.label} has no neuron ({neuron.name}).", wanted=_there_is(subject, neuron, shape)
            )


def _there_is(subject: Subject, neuron: Neuron, shape: tuple[int, ...]) -> str:
    layers = f"layers 0 to {subject.layers - 1}"
    if shape:
        experts = f"experts below {shape[0]}, " if len(shape) > 1 else ""
        return f"{layers}, {experts}indices below {shape[-1]}"
    if neuron.expert is not None:
        return f"{layers}, and an expert in those with routed experts only"
    return f"{layers}, indices below {max(subject.widths)}" if any(subject.widths) else f"{layers}, and an expert"
