"""Which neurons are like which: by correlation over a corpus, and by what they write."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neurodial.circuit.site import Neuron
from neurodial.explain.read_corpus import CorpusReading
from neurodial.model.subject import Subject


@dataclass(frozen=True)
class Neighbour:
    """A neuron that is like another.

    Attributes:
        layer: its block.
        index: in its layer.
        likeness: correlation of activations, or cosine of what they write.
        in_circuit: whether it belongs to the circuit.
    """

    layer: int
    index: int
    likeness: float
    in_circuit: bool


def correlated(reading: CorpusReading, channel: int, count: int = 5) -> list[Neighbour]:
    """The neurons whose activations vary most with a shown neuron's: all of its layer, and the circuit's elsewhere."""
    rows = reading.watched.rows
    own = rows[channel].neuron
    members = {row.neuron for row in rows}
    found = [
        (value, Neuron(own.layer, None, index))
        for index, value in enumerate(reading.in_layer(channel).tolist())
        if index != own.index
    ]
    others = reading.correlation[channel].tolist()
    found += [(others[k], row.neuron) for k, row in enumerate(rows) if row.neuron.layer != own.layer]
    return _nearest(found, members, count)


def alike_in_writing(subject: Subject, reading: CorpusReading, channel: int, count: int = 5) -> list[Neighbour]:
    """The neurons whose output columns point most along a shown neuron's: all of its layer, and the circuit's."""
    rows = reading.watched.rows
    own = rows[channel].neuron
    members = {row.neuron for row in rows}
    width = subject.widths[own.layer]
    layer = torch.nn.functional.normalize(subject.down_columns(own.site, range(width)), dim=0)
    column = layer[:, own.index]
    found = [(value, Neuron(own.layer, None, k)) for k, value in enumerate((column @ layer).tolist()) if k != own.index]
    for site, channels in reading.watched.sites.items():
        if site.layer != own.layer:
            indices = [rows[k].neuron.index for k in channels]
            others = torch.nn.functional.normalize(subject.down_columns(site, indices), dim=0)
            pairs = zip((column @ others).tolist(), channels, strict=True)
            found += [(value, rows[k].neuron) for value, k in pairs]
    return _nearest(found, members, count)


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
    ranked = sorted(found, key=lambda pair: (-abs(pair[0]), pair[1].layer, pair[1].index))
    return [Neighbour(n.layer, n.index, value, n in members) for value, n in ranked[:count]]
