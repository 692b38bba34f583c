"""Random circuits as controls: a method that is not better than these has found nothing."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitError


def random_control(circuit: Circuit, *, seed: int, match: Literal["global", "layer"] = "global") -> Circuit:
    """As many random neurons as the circuit has, none of its own, with its doses in random order.

    Args:
        circuit: what to match.
        seed: of the choice.
        match: `global`, anywhere in the model; `layer`, as many in each layer as the circuit has there.

    Raises:
        CircuitError: the model's shape is not known, or it has too few other neurons.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> contrast = nd.Contrast.of([f"harm {n}" for n in range(4)], [f"help {n}" for n in range(4)])
        >>> circuit = nd.discover(tiny_subject(), contrast, method=nd.CNA(universal=None))
        >>> control = random_control(circuit, seed=0)
        >>> len(control) == len(circuit), control.neurons & circuit.neurons
        (True, frozenset())
    """
    model = circuit.origin.model
    if model is None:
        raise CircuitError("The circuit does not say which model it is of.", wanted="a discovered circuit")
    generator = random.Random(seed)
    everything = [Neuron(layer, None, index) for layer, width in enumerate(model.widths) for index in range(width)]
    others = [neuron for neuron in everything if neuron not in circuit.neurons]
    if match == "global":
        pools = [(others, len(circuit))]
    else:
        layers = {row.neuron.layer for row in circuit}
        pools = [([n for n in others if n.layer == at], len(circuit.in_layers([at]))) for at in sorted(layers)]
    if any(len(pool) < count for pool, count in pools):
        raise CircuitError("The model has too few neurons outside the circuit.", wanted="a smaller circuit")
    chosen = [neuron for pool, count in pools for neuron in generator.sample(pool, count)]
    doses = [row.dose for row in circuit]
    generator.shuffle(doses)
    rows = [Row(neuron, 0.0, dose) for neuron, dose in zip(chosen, doses, strict=True)]
    origin = replace(circuit.origin, method={"kind": "random_control", "match": match}, seed=seed, universal=None)
    name = f"{circuit.name}-random-{seed}"
    return Circuit.of(rows, name=name, direction=circuit.direction, origin=origin, condition=circuit.condition)
