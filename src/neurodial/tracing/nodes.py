"""From relevance to a circuit of one prediction: which (layer, token, neuron) are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from neurodial.circuit.selection import Select

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


def select_nodes(relevance: Relevance, select: Select) -> tuple[NodeScore, ...]:
    """The nodes of largest absolute relevance, best first; ties by (layer, token, neuron).

    Example:
        >>> from neurodial.circuit.selection import Count
        >>> from neurodial.model.tiny import tiny_subject
        >>> from neurodial.tracing.question import Question
        >>> from neurodial.tracing.relevance import relevance
        >>> [result] = relevance(tiny_subject(), [Question((256, 72, 105), 10, 11)])
        >>> len(select_nodes(result, Count(5)))
        5
    """
    import torch

    sizes = [values.numel() for values in relevance.neurons]
    flat = torch.cat([values.reshape(-1).double() for values in relevance.neurons])
    layer_of = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(flat.device)
    order = select.choose(flat.abs(), layer_of, whole=relevance.value)
    layers, order = layer_of[order].cpu(), order.cpu()
    starts = torch.tensor([0, *sizes]).cumsum(0)
    inside, widths = order - starts[layers], torch.tensor([values.shape[1] for values in relevance.neurons])[layers]
    activations = torch.cat([values.reshape(-1).double() for values in relevance.activations])[order]
    columns = (layers, inside // widths, inside % widths, flat[order], activations)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(
        NodeScore(Node(layer, token, neuron), value, activation) for layer, token, neuron, value, activation in rows
    )
