"""A trace graph: what a prediction rests on, and what feeds what. Torch-free values.

A weight of an edge is the part of the target's value that flows from its source straight into its target; so the
weights that leave a node sum to its relevance; where nothing is pruned, so do those that enter, up to biases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from neurodial.errors import OptionError

Kind = Literal["input", "neuron", "hidden", "target"]


class GraphNode(NamedTuple):
    """One node.

    Attributes:
        id: unique in its graph.
        kind: an input token, a neuron at a token, a hidden state after a block, or the target.
        layer: its layer; for a hidden state the number of blocks before it; None for input and target.
        token: its place in the text; None for the target.
        neuron: its index; None where it is no neuron.
        relevance: its part in the target's value.
        label: what a person reads.
    """

    id: str
    kind: Kind
    layer: int | None
    token: int | None
    neuron: int | None
    relevance: float
    label: str


class Edge(NamedTuple):
    """What flows from one node straight into another."""

    source: str
    target: str
    weight: float


@dataclass(frozen=True)
class TraceGraph:
    """Nodes and weighted edges behind one prediction; a file type of its own (`*.trace.json`).

    Attributes:
        nodes: inputs first, the target last; edges lead from earlier to later nodes.
        edges: sources before targets.
        tokens: the text, token by token.
        target: the token that is explained, as text.
        foil: the token that it is compared with, or empty.
        value: logit or logit difference.
        origin: model, rules, selection, versions: everything needed to make it again.

    Example:
        >>> nodes = (
        ...     GraphNode("a", "input", None, 0, None, 1.0, "a"),
        ...     GraphNode("t", "target", None, None, None, 1.0, "t"),
        ... )
        >>> TraceGraph(nodes, (Edge("a", "t", 1.0),), ("a",), "b", "", 1.0).hubs(1)[0].id
        'a'

    Raises:
        OptionError: an id is listed twice, or an edge leads to no node or back.
    """

    nodes: tuple[GraphNode, ...]
    edges: tuple[Edge, ...]
    tokens: tuple[str, ...]
    target: str
    foil: str
    value: float
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        places = {node.id: place for place, node in enumerate(self.nodes)}
        if len(places) != len(self.nodes):
            raise OptionError("A node is listed twice in the graph.", wanted="different ids")
        for edge in self.edges:
            if places.get(edge.source, len(places)) >= places.get(edge.target, -1):
                raise OptionError(
                    f"The edge {edge.source} → {edge.target} leads to no node or back.",
                    wanted="an edge from an earlier node to a later one",
                )

    def hubs(self, count: int = 5) -> list[GraphNode]:
        """The nodes, target apart, through which most flows: sum of absolute weights in and out."""
        flow = dict.fromkeys((node.id for node in self.nodes), 0.0)
        for edge in self.edges:
            flow[edge.source] += abs(edge.weight)
            flow[edge.target] += abs(edge.weight)
        ranked = sorted(enumerate(self.nodes), key=lambda item: (-flow[item[1].id], item[0]))
        return [node for _, node in ranked if node.kind != "target" and flow[node.id] > 0][:count]

    def bottlenecks(self) -> list[GraphNode]:
        """The nodes between input and target that every path from an input to the target leads through."""
        before = self._paths(((e.source, e.target) for e in self.edges), self.nodes, "input")
        after = self._paths(((e.target, e.source) for e in reversed(self.edges)), self.nodes[::-1], "target")
        total = sum(before[node.id] for node in self.nodes if node.kind == "target")
        inner = (node for node in self.nodes if node.kind in {"neuron", "hidden"})
        return [node for node in inner if total and before[node.id] * after[node.id] == total]

    def strongest(self, share: float) -> TraceGraph:
        """The fewest edges, strongest first, that hold this share of the absolute weight into each node."""
        if not 0 < share <= 1:
            raise OptionError(f"The share of edge weight is {share}.", wanted="more than 0 and at most 1")
        into: dict[str, list[Edge]] = {}
        for edge in self.edges:
            into.setdefault(edge.target, []).append(edge)
        strong = {edge for edges in into.values() for edge in strongest(edges, share)}
        return replace(self, edges=tuple(edge for edge in self.edges if edge in strong))

    def connected(self) -> TraceGraph:
        """The part from which the target can be reached, and the inputs."""
        reached = {node.id for node in self.nodes if node.kind == "target"}
        into: dict[str, list[str]] = {}
        for edge in self.edges:
            into.setdefault(edge.target, []).append(edge.source)
        for node in reversed(self.nodes):
            if node.id in reached:
                reached.update(into.get(node.id, ()))
        nodes = tuple(node for node in self.nodes if node.id in reached or node.kind == "input")
        edges = tuple(edge for edge in self.edges if edge.target in reached)
        return replace(self, nodes=nodes, edges=edges)

    @staticmethod
    def _paths(steps: Iterable[tuple[str, str]], ordered: Iterable[GraphNode], start: Kind) -> dict[str, int]:
        """Number of paths from the nodes of one kind to each node."""
        nexts: dict[str, list[str]] = {}
        for source, target in steps:
            nexts.setdefault(source, []).append(target)
        counts: dict[str, int] = {}
        for node in ordered:
            counts.setdefault(node.id, 0)
            counts[node.id] += node.kind == start
            for target in nexts.get(node.id, ()):
                counts[target] = counts.get(target, 0) + counts[node.id]
        return counts


def strongest(edges: Iterable[Edge], share: float) -> list[Edge]:
    """The fewest edges, strongest first, that hold this share of their absolute weight.

    Example:
        >>> strongest([Edge("a", "c", 0.9), Edge("b", "c", -0.1)], 0.85)
        [Edge(source='a', target='c', weight=0.9)]
    """
    ranked = sorted(edges, key=lambda edge: (-abs(edge.weight), edge.source, edge.target))
    least_weight = share * sum(abs(edge.weight) for edge in ranked) * (1 - 1e-12)
    chosen, held = [], 0.0
    for edge in ranked:
        if held >= least_weight:
            break
        chosen.append(edge)
        held += abs(edge.weight)
    return chosen
