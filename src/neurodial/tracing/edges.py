"""Edges of trace graphs, on the linearised model.

Between circuit neurons (arXiv 2601.22594):
1. One pass in which every layer's neurons are cut off from what made them: the next part of the graph starts there.
2. From each circuit neuron, and from the target, one gradient back to the cuts: only direct paths are left, through
   attention and the residual stream. The seeds of a layer share a batched backward pass.
3. Weight = source's activation x that gradient x the gradient of the target's value by the node it enters.

Between hidden states (arXiv 2604.17761):
1. The same with a cut after every block; many prompts in one batch.
2. From the top down, one seed for each kept (depth, token) of each prompt: gradients back through a single block.
3. Keep nodes of at least `node_threshold` of the value, per depth the strongest edges that hold `edge_mass` of the
   absolute weight, and what is connected to the final token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import padded
from neurodial.activations.collect import pad_id
from neurodial.errors import OptionError
from neurodial.model.gradients import gradients
from neurodial.model.hooks import Edit, Handle, installed, on_block_output, on_embedding, on_neurons
from neurodial.model.subject import Subject
from neurodial.prompts.render import check_context
from neurodial.tracing.graph import Edge, GraphNode, TraceGraph, strongest
from neurodial.tracing.linearize import linearized
from neurodial.tracing.nodes import Node, NodeScore
from neurodial.tracing.question import Question, labels
from neurodial.tracing.relevance import Relevance, target_values
from neurodial.tracing.rules import Rules

SEEDS = 16
"""Seeds of one batched backward pass."""


@dataclass(frozen=True)
class Pruning:
    """What a graph over hidden states keeps.

    Attributes:
        node_threshold: least absolute relevance of a hidden state, as a share of the target's value.
        edge_mass: share of the absolute weight between two depths that the kept edges hold.

    Example:
        >>> Pruning().edge_mass
        0.85
    """

    node_threshold: float = 0.01
    edge_mass: float = 0.85

    def __post_init__(self) -> None:
        if not 0 <= self.node_threshold < float("inf") or not 0 < self.edge_mass <= 1:
            raise OptionError(
                f"The node threshold is {self.node_threshold} and the edge mass {self.edge_mass}.",
                wanted="a threshold of at least 0, and a mass above 0 and at most 1",
            )


@dataclass(frozen=True, eq=False)
class _Cuts:
    """A pass cut into pieces: what went into each cut, and the leaf that came out of it."""

    before: list[Tensor]
    leaves: list[Tensor]

    def edit(self) -> Edit:
        def cut(tensor: Tensor) -> Tensor:
            self.before.append(tensor)
            self.leaves.append(tensor.detach().requires_grad_())
            return self.leaves[-1]

        return cut


def neuron_graph(
    subject: Subject, relevance: Relevance, nodes: Sequence[NodeScore], *, rules: Rules | None = None
) -> TraceGraph:
    """The graph of a prediction's circuit: input tokens, circuit neurons, target, and the direct paths between.

    Args:
        subject: the model.
        relevance: the prediction's relevance.
        nodes: the circuit, of `select_nodes`.
        rules: the same as for the relevance.

    Raises:
        GradientError: a part of the model gives no gradient.

    Example:
        >>> from neurodial.tracing.nodes import select_nodes
        >>> from neurodial.tracing.relevance import relevance
        >>> from neurodial.circuit.selection import Count
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject = tiny_subject()
        >>> [result] = relevance(subject, [Question((256, 72, 105), 10, 11)])
        >>> graph = neuron_graph(subject, result, select_nodes(result, Count(4)))
        >>> [node.kind for node in graph.nodes]
        ['input', 'input', 'input', 'neuron', 'neuron', 'neuron', 'neuron', 'target']
    """
    chosen = rules or Rules()
    ordered = sorted((score.node for score in nodes), key=lambda node: (node.layer, node.token, node.neuron))
    cuts = _Cuts([], [])

    def install(handles: list[Handle]) -> None:
        handles.append(on_embedding(subject, cuts.edit()))
        handles.extend(on_neurons(subject, site, cuts.edit()) for site in subject.sites)

    with linearized(subject, chosen), installed(install), torch.enable_grad():
        tokens = torch.tensor([relevance.question.tokens], device=subject.device)
        output = subject.decoder(input_ids=tokens, use_cache=False).last_hidden_state  # 1
        value = target_values(subject, output, [relevance.question], chosen).sum()
        into_target = gradients(subject, value, cuts.leaves, retain=True)
        edges = _edges(dict(enumerate(into_target)), cuts, ordered, "target")
        for layer in sorted({node.layer for node in ordered}):  # 2
            targets = [node for node in ordered if node.layer == layer]
            for start in range(0, len(targets), SEEDS):
                edges += _into(targets[start : start + SEEDS], relevance, cuts, ordered)
    return _neuron_graph(subject, relevance, nodes, ordered, edges)


def _into(targets: Sequence[Node], relevance: Relevance, cuts: _Cuts, nodes: Sequence[Node]) -> list[Edge]:
    """Edges into several neurons of one layer."""
    layer = targets[0].layer
    neurons = cuts.before[1 + layer]
    seeds = torch.zeros(len(targets), *neurons.shape, dtype=neurons.dtype, device=neurons.device)
    for number, node in enumerate(targets):
        activation = float(neurons[0, node.token, node.neuron].detach())
        slope = float(relevance.neurons[layer][node.token, node.neuron]) / activation if activation else 0.0
        seeds[number, 0, node.token, node.neuron] = slope
    sources = [node for node in nodes if node.layer < layer]
    places = [0, *sorted({1 + node.layer for node in sources})]  # no gradients where nothing is kept
    leaves = [cuts.leaves[place] for place in places]
    slopes = torch.autograd.grad(neurons, leaves, seeds, is_grads_batched=True, retain_graph=True, allow_unused=True)
    edges = []
    for number, node in enumerate(targets):
        arrived = {place: slope[number] for place, slope in zip(places, slopes, strict=True) if slope is not None}
        edges += _edges(arrived, cuts, sources, _neuron_id(node))
    return edges


def _edges(slopes: Mapping[int, Tensor], cuts: _Cuts, sources: Sequence[Node], target: str) -> list[Edge]:
    """Weights of the edges from input tokens and neurons into one node, from the slopes at the cuts (3)."""
    flows = (cuts.leaves[0].detach() * slopes[0])[0].sum(dim=-1).tolist() if 0 in slopes else []
    edges = [Edge(f"input {token}", target, weight) for token, weight in enumerate(flows)]
    for node in sources:
        place = (0, node.token, node.neuron)
        if 1 + node.layer in slopes:
            weight = float(cuts.leaves[1 + node.layer].detach()[place]) * float(slopes[1 + node.layer][place])
            edges.append(Edge(_neuron_id(node), target, weight))
    return [edge for edge in edges if edge.weight != 0]


def _neuron_graph(
    subject: Subject, relevance: Relevance, scores: Sequence[NodeScore], ordered: Sequence[Node], edges: list[Edge]
) -> TraceGraph:
    texts = labels(subject.tokenizer, relevance.question.tokens)
    relevances = {score.node: score.relevance for score in scores}
    nodes = _input_nodes(relevance.inputs, texts)
    nodes += [
        GraphNode(_neuron_id(n), "neuron", n.layer, n.token, n.neuron, relevances[n], _neuron_label(n, texts))
        for n in ordered
    ]
    return _graph(subject, relevance.question, relevance.value, nodes, edges)


def hidden_graphs(
    subject: Subject, questions: Sequence[Question], *, pruning: Pruning | None = None, rules: Rules | None = None
) -> list[TraceGraph]:
    """The pruned graph over hidden states (depth, token) of each question; all questions share the passes.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        GradientError: a part of the model gives no gradient.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [graph] = hidden_graphs(tiny_subject(), [Question((256, 72, 105), 10, 11)])
        >>> graph.nodes[-1].kind
        'target'
    """
    chosen, thresholds = rules or Rules(), pruning or Pruning()
    check_context([len(question.tokens) for question in questions], subject.context_length)
    cuts = _Cuts([], [])

    def install(handles: list[Handle]) -> None:
        handles.append(on_embedding(subject, cuts.edit()))
        handles.extend(on_block_output(subject, site.layer, cuts.edit()) for site in subject.sites)

    with linearized(subject, chosen), installed(install), torch.enable_grad():
        tokens = padded([question.tokens for question in questions], pad_id(subject), "right").to(subject.device)
        output = subject.decoder(input_ids=tokens, use_cache=False).last_hidden_state  # 1
        values = target_values(subject, output, questions, chosen)
        [slope] = gradients(subject, values.sum(), cuts.leaves[-1:])
        flows = _block_flows(cuts, slope, values.detach().abs() * thresholds.node_threshold)  # 2
    return [
        _hidden_graph(subject, question, float(values[row].detach()), [flow[row] for flow in flows], thresholds)
        for row, question in enumerate(questions)
    ]


@dataclass(frozen=True)
class _Flow:
    """What flows into one depth of one prompt.

    Attributes:
        relevance: of each token at this depth.
        into: for each kept token of this depth, the flow from each token of the depth before.
    """

    relevance: Float[Tensor, "token"]
    into: dict[int, Float[Tensor, "token"]]


def _block_flows(
    cuts: _Cuts, slope: Float[Tensor, "row token hidden"], least: Float[Tensor, "row"]
) -> list[list[_Flow]]:
    """For each depth, the input first, the flow of each row."""
    flows: list[list[_Flow]] = []
    for depth in reversed(range(len(cuts.leaves))):
        relevance = (cuts.leaves[depth].detach() * slope).sum(dim=-1)
        strong = (relevance.abs() >= least[:, None]) & (relevance != 0)
        chosen = [row.nonzero()[:, 0].tolist() for row in strong]
        if depth == 0:
            flows.append([_Flow(row.cpu(), {}) for row in relevance])
            break
        arrived, slope = _through_block(cuts, depth, slope, chosen)
        flows.append(
            [
                _Flow(relevance[row].cpu(), {token: arrived[number][row] for number, token in enumerate(tokens)})
                for row, tokens in enumerate(chosen)
            ]
        )
    return flows[::-1]


def _through_block(
    cuts: _Cuts, depth: int, slope: Tensor, chosen: Sequence[Sequence[int]]
) -> tuple[list[Tensor], Tensor]:
    """Flow into the n-th chosen token of each row from the depth before; and the whole slope there."""
    seeds = [slope]
    for number in range(max(map(len, chosen))):
        seed = torch.zeros_like(slope)
        for row, tokens in enumerate(chosen):
            if number < len(tokens):
                seed[row, tokens[number]] = slope[row, tokens[number]]
        seeds.append(seed)
    leaf = cuts.leaves[depth - 1]
    gradient_rows: list[Tensor] = []
    for start in range(0, len(seeds), SEEDS):
        batch = torch.stack(seeds[start : start + SEEDS])
        (slopes,) = torch.autograd.grad(cuts.before[depth], leaf, batch, is_grads_batched=True, retain_graph=True)
        gradient_rows.extend(slopes)
    return [(leaf.detach() * gradient).sum(dim=-1).cpu() for gradient in gradient_rows[1:]], gradient_rows[0]


def _hidden_graph(
    subject: Subject, question: Question, value: float, flows: Sequence[_Flow], pruning: Pruning
) -> TraceGraph:
    texts = labels(subject.tokenizer, question.tokens)
    length, depths = len(question.tokens), len(flows)
    nodes = _input_nodes(flows[0].relevance[:length], texts)
    edges: list[Edge] = []
    for depth in range(1, depths):
        for token in flows[depth].into:
            relevance = float(flows[depth].relevance[token])
            label = f"{texts[token]!r} after block {depth - 1}"
            nodes.append(GraphNode(_hidden_id(depth, token), "hidden", depth, token, None, relevance, label))
        names = {node.id for node in nodes}
        here = [
            Edge(_hidden_id(depth - 1, source), _hidden_id(depth, token), float(weight))
            for token, weights in flows[depth].into.items()
            for source, weight in enumerate(weights[:length].tolist())
            if weight != 0 and _hidden_id(depth - 1, source) in names
        ]
        edges += strongest(here, pruning.edge_mass)
    last = flows[-1].relevance
    edges += [Edge(_hidden_id(depths - 1, token), "target", float(last[token])) for token in flows[-1].into]
    return _graph(subject, question, value, nodes, edges).connected()


def _graph(subject: Subject, question: Question, value: float, nodes: list[GraphNode], edges: list[Edge]) -> TraceGraph:
    target = subject.tokenizer.decode([question.target])
    foil = "" if question.foil is None else subject.tokenizer.decode([question.foil])
    label = f"{target!r}" if not foil else f"{target!r} over {foil!r}"
    nodes = [*nodes, GraphNode("target", "target", None, None, None, value, label)]
    texts = tuple(labels(subject.tokenizer, question.tokens))
    return TraceGraph(tuple(nodes), tuple(edges), texts, target, foil, value)


def _input_nodes(relevance: Tensor, texts: Sequence[str]) -> list[GraphNode]:
    return [
        GraphNode(f"input {token}", "input", None, token, None, weight, repr(texts[token]))
        for token, weight in enumerate(relevance.tolist())
    ]


def _hidden_id(depth: int, token: int) -> str:
    return f"hidden {depth}.{token}" if depth else f"input {token}"


def _neuron_id(node: Node) -> str:
    return f"neuron {node.layer}.{node.token}.{node.neuron}"


def _neuron_label(node: Node, texts: Sequence[str]) -> str:
    return f"{node.layer}.{node.neuron} at {texts[node.token]!r}"
