"""From relevance to a circuit of one prediction: which (layer, token, neuron) are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from neurodial.circuit.selection import Count, Fraction
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.tracing.relevance import Relevance


class Node(NamedTuple):
    """A neuron at a token."""

    layer: int
    token: int
    neuron: int


class NodeScore(NamedTuple):
    """A node with its relevance and its activation."""

    node: Node
    relevance: float
    activation: float


@dataclass(frozen=True)
class Threshold:
    """Nodes whose relevance is at least this share of the target's value, both without their sign.

    Example:
        >>> Threshold(0.01).value
        0.01
    """

    value: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.value < float("inf"):
            raise OptionError(f"The threshold is {self.value}.", wanted="more than 0, such as 0.01")


@dataclass(frozen=True)
class Mass:
    """The fewest nodes that hold this share of all absolute relevance.

    Example:
        >>> Mass(0.85).value
        0.85
    """

    value: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise OptionError(f"The share of relevance is {self.value}.", wanted="more than 0 and at most 1")


NodeSelect = Threshold | Mass | Fraction | Count
"""By relevance, by the relevance they hold together, by share of all nodes, or by number."""


def select_nodes(found: Relevance, select: NodeSelect) -> tuple[NodeScore, ...]:
    """The nodes of largest absolute relevance, best first; ties by (layer, token, neuron).

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> from neurodial.tracing.question import Question
        >>> from neurodial.tracing.relevance import relevance
        >>> [found] = relevance(tiny_subject(), [Question((256, 72, 105), 10, 11)])
        >>> len(select_nodes(found, Count(5)))
        5
    """
    import torch

    from neurodial.methods.choose import strongest

    sizes = [part.numel() for part in found.neurons]
    flat = torch.cat([part.reshape(-1).double() for part in found.neurons])
    strength = flat.abs()
    if isinstance(select, Threshold):
        least = select.value * abs(found.value)
        count = int((strength >= least).sum())
    elif isinstance(select, Mass):
        held = strength.sort(descending=True).values.cumsum(0)
        count = min(len(flat), 1 + int((held < select.value * float(held[-1]) * (1 - 1e-12)).sum()))
    else:
        count = select.count(len(flat))
    order = strongest(strength, count).cpu()
    starts = torch.tensor([0, *sizes]).cumsum(0)
    layers = torch.searchsorted(starts, order, right=True) - 1
    inside, widths = order - starts[layers], torch.tensor([part.shape[1] for part in found.neurons])[layers]
    activations = torch.cat([part.reshape(-1).double() for part in found.activations])[order]
    columns = (layers, inside // widths, inside % widths, flat[order], activations)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(
        NodeScore(Node(layer, token, neuron), value, activation) for layer, token, neuron, value, activation in rows
    )
