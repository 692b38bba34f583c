"""Super weights of a prediction: single numbers of a down projection that carry a node's relevance.

1. A neuron's relevance is the sum over hidden coordinates i of `a_j * W[i, j] * g_i`, g the gradient of the target's
   value by the output of the down projection.
2. Where one coordinate holds most of the absolute sum, that one weight does the neuron's work here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neurodial.circuit.site import Site
from neurodial.model.gradients import Tape, gradients
from neurodial.model.hooks import Adjoint, Handle, installed, on_gradient
from neurodial.model.subject import Subject
from neurodial.tracing.linearize import linearized
from neurodial.tracing.nodes import Node, NodeScore
from neurodial.tracing.question import Question
from neurodial.tracing.relevance import target_values
from neurodial.tracing.rules import Rules


class SuperWeight(NamedTuple):
    """One weight of a down projection.

    Attributes:
        node: the neuron and the token.
        coordinate: of the residual stream, that the weight writes to.
        weight: its value.
        relevance: the part of the target's value that flows through it.
        share: of the absolute relevance of all weights of the node.
    """

    node: Node
    coordinate: int
    weight: float
    relevance: float
    share: float


def super_weights(
    subject: Subject, question: Question, nodes: Sequence[NodeScore], *, rules: Rules | None = None
) -> list[SuperWeight]:
    """The strongest weight of each node, by its share of the node, largest first.

    Raises:
        ModelError: a down projection is quantised or offloaded.
        GradientError: a part of the model gives no gradient.

    Example:
        >>> from neurodial.tracing.nodes import select_nodes
        >>> from neurodial.tracing.relevance import relevance
        >>> from neurodial.circuit.selection import Count
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject, question = tiny_subject(), Question((256, 72, 105), 10, 11)
        >>> [result] = relevance(subject, [question])
        >>> 0 < super_weights(subject, question, select_nodes(result, Count(1)))[0].share <= 1
        True
    """
    chosen, tape = rules or Rules(), Tape()
    arrived: dict[int, Tensor] = {}

    def install(handles: list[Handle]) -> None:
        tape.install(subject, handles)
        handles.extend(on_gradient(subject.down(site), _remember(arrived, site)) for site in subject.dense_sites)

    with linearized(subject, chosen), installed(install), torch.enable_grad():
        tokens = torch.tensor([question.tokens], device=subject.device)
        output = subject.decoder(input_ids=tokens, use_cache=False).last_hidden_state
        gradients(subject, target_values(subject, output, [question], chosen).sum(), tape.hidden[:1])
    strongest = [_strongest(subject, score, arrived[score.node.layer]) for score in nodes]
    return sorted(strongest, key=lambda weight: (-weight.share, weight.node))


def _remember(arrived: dict[int, Tensor], site: Site) -> Adjoint:
    def remember(gradient: Tensor) -> Tensor:
        arrived[site.layer] = gradient.detach()
        return gradient

    return remember


def _strongest(subject: Subject, score: NodeScore, gradient: Tensor) -> SuperWeight:
    node = score.node
    column = subject.down_weight(Site(node.layer))[:, node.neuron].detach()
    at_token = gradient.reshape(-1, column.numel())[node.token]  # one row, perhaps flattened with its tokens
    flow = score.activation * column.double() * at_token.double()
    place = int(flow.abs().argmax())
    total = float(flow.abs().sum())
    share = float(flow[place].abs()) / total if total else 0.0
    return SuperWeight(node, place, float(column[place]), float(flow[place]), share)
