"""Which neurons are like which: by correlation over a corpus, and by what they write."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from neurodial.circuit.site import Neuron, OfOneNeuron, Site
from neurodial.explain.read_corpus import CorpusReading
from neurodial.model.subject import Subject


@dataclass(frozen=True)
class Neighbour(OfOneNeuron):
    """A neuron that is like another.

    Attributes:
        layer: its block.
        index: in its layer, or in its expert.
        likeness: correlation of activations, or cosine of what they write.
        in_circuit: whether it belongs to the circuit.
        expert: the routed expert that it is in, or None.
    """

    layer: int
    index: int
    likeness: float
    in_circuit: bool
    expert: int | None = None


def correlated(reading: CorpusReading, channel: int, count: int = 5) -> list[Neighbour]:
    """The neurons whose activations vary most with a shown neuron's: all of its site, and the circuit's elsewhere."""
    rows = reading.watched.rows
    own = rows[channel].neuron
    members = {row.neuron for row in rows}
    sums = reading.layers[own.site]
    found = [(value, sums.neuron(place)) for place, value in enumerate(reading.in_layer(channel).tolist())]
    others = reading.correlation[channel].tolist()
    found += [(others[k], row.neuron) for k, row in enumerate(rows) if row.neuron.site != own.site]
    return _nearest([pair for pair in found if pair[1] != own], members, count)


def alike_in_writing(subject: Subject, reading: CorpusReading, channel: int, count: int = 5) -> list[Neighbour]:
    """The neurons whose output columns point most along a shown neuron's: all of its site, and the circuit's.

    Of a routed expert's neuron, all of its expert and the circuit's.
    """
    rows = reading.watched.rows
    own = rows[channel].neuron
    members = {row.neuron for row in rows}
    shape = subject.shape(own.site)
    beside = [own._replace(index=index) for index in range(shape[-1])]
    column = _directions(subject, own.site, [own])[:, 0]
    found = list(zip((column @ _directions(subject, own.site, beside)).tolist(), beside, strict=True))
    for site, channels in reading.watched.sites.items():
        others = [rows[k].neuron for k in channels if rows[k].neuron not in beside]
        if others:
            found += zip((column @ _directions(subject, site, others)).tolist(), others, strict=True)
    return _nearest([pair for pair in found if pair[1] != own], members, count)


def _directions(subject: Subject, site: Site, neurons: list[Neuron]) -> Float[Tensor, "hidden neuron"]:
    """What neurons of a site write, each of length 1."""
    places = [neuron.number(subject.shape(site)) for neuron in neurons]
    return torch.nn.functional.normalize(subject.down_columns(site, places), dim=0)


def groups_of(correlation: Float64[Tensor, "neuron neuron"], likeness: float) -> list[list[int]]:
    """Neurons in groups whose mean absolute correlation is at least `likeness`, largest group first.

    Example:
        >>> groups_of(torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.1], [0.0, 0.1, 1.0]], dtype=torch.float64), 0.5)
        [[0, 1], [2]]
    """
    count = correlation.shape[0]
    if count < 2:
        return [[number] for number in range(count)]
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    distance = 1 - correlation.abs().numpy()
    distance = (distance + distance.T) / 2
    distance[range(count), range(count)] = 0
    labels = fcluster(linkage(squareform(distance.clip(0), checks=False), "average"), 1 - likeness, "distance")
    groups: dict[int, list[int]] = {}
    for number, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(number)
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def _nearest(found: list[tuple[float, Neuron]], members: set[Neuron], count: int) -> list[Neighbour]:
    ranked = sorted(found, key=lambda pair: (-abs(pair[0]), pair[1].order))
    return [Neighbour(n.layer, n.index, value, n in members, n.expert) for value, n in ranked[:count]]
