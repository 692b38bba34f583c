"""What both kinds of trace graph are made with: a pass cut into pieces, and the nodes that every graph has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from neurodial.model.hooks import Edit
from neurodial.model.subject import Subject
from neurodial.tracing.graph import Edge, GraphNode, TraceGraph
from neurodial.tracing.question import Question, labels

SEEDS = 16
"""Seeds of one batched backward pass."""


@dataclass(frozen=True, eq=False)
class Cuts:
    """A pass cut into pieces: what went into each cut, and the leaf that came out of it."""

    before: list[Tensor]
    leaves: list[Tensor]

    def edit(self) -> Edit:
        """What cuts the pass where it is put, and keeps both ends."""

        def cut(tensor: Tensor) -> Tensor:
            self.before.append(tensor)
            self.leaves.append(tensor.detach().requires_grad_())
            return self.leaves[-1]

        return cut


def trace_graph(
    subject: Subject, question: Question, value: float, nodes: list[GraphNode], edges: list[Edge]
) -> TraceGraph:
    """A graph with its target added as the last node."""
    target = subject.tokenizer.decode([question.target])
    foil = "" if question.foil is None else subject.tokenizer.decode([question.foil])
    label = f"{target!r}" if not foil else f"{target!r} over {foil!r}"
    nodes = [*nodes, GraphNode("target", "target", None, None, None, value, label)]
    texts = tuple(labels(subject.tokenizer, question.tokens))
    return TraceGraph(tuple(nodes), tuple(edges), texts, target, foil, value)


def input_nodes(relevance: Tensor, texts: Sequence[str]) -> list[GraphNode]:
    """A node for each input token, with its relevance."""
    return [
        GraphNode(f"input {token}", "input", None, token, None, weight, repr(texts[token]))
        for token, weight in enumerate(relevance.tolist())
    ]
