"""Random circuits as controls: a method that is not better than these has found nothing."""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import replace
from typing import Literal

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import AllNeurons, Neuron
from neurodial.errors import CircuitError

Match = Literal["global", "layer", "visits"]


def random_control(circuit: Circuit, *, seed: int, match: Match = "global") -> Circuit:
    """As many random neurons as the circuit has, none of its own, with its doses in random order.

    Args:
        circuit: what to match.
        seed: of the choice.
        match: `global`, anywhere in the model; `layer`, as many in each layer as the circuit has there; `visits`, as
            many in each expert (in each layer's dense MLP), so that as many tokens of any prompt come to them.

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
    everything = AllNeurons.of(model)
    parts: dict[range, list[Neuron]] = {}
    for row in circuit:
        parts.setdefault(_pool(everything, row.neuron, match), []).append(row.neuron)
    chosen: list[Neuron] = []
    for pool, own in parts.items():
        gone = [place - before for before, place in enumerate(sorted(everything.positions(own)))]
        if len(pool) < 2 * len(own):
            raise CircuitError("The model has too few neurons outside the circuit.", wanted="a smaller circuit")
        others = generator.sample(range(pool.start, pool.stop - len(own)), len(own))
        chosen += everything.at(place + bisect_right(gone, place) for place in others)
    doses = [row.dose for row in circuit]
    generator.shuffle(doses)
    rows = [Row(neuron, 0.0, dose) for neuron, dose in zip(chosen, doses, strict=True)]
    origin = replace(circuit.origin, method={"kind": "random_control", "match": match}, seed=seed, universal=None)
    name = f"{circuit.name}-random-{seed}"
    return Circuit.of(rows, name=name, direction=circuit.direction, origin=origin, condition=circuit.condition)


def _pool(everything: AllNeurons, neuron: Neuron, match: Match) -> range:
    """Positions of the neurons that may stand for one."""
    if match == "global":
        return range(everything.count)
    if match == "layer":
        spans = [everything.span(site) for site in everything.shapes if site.layer == neuron.layer]
        return range(min(span.start for span in spans), max(span.stop for span in spans))
    span, width = everything.span(neuron.site), everything.shapes[neuron.site][-1]
    start = span.start + (neuron.expert or 0) * width
    return range(start, start + width)
