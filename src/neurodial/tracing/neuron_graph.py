"""Edges between circuit neurons, on the linearised model (arXiv 2601.22594).

1. One pass in which every layer's neurons are cut off from what made them: the next part of the graph starts there.
2. From each circuit neuron, and from the target, one gradient back to the cuts: only direct paths are left, through
   attention and the residual stream. The seeds of a layer share a batched backward pass.
3. Weight = source's activation x that gradient x the gradient of the target's value by the node it enters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neurodial.model.gradients import gradients
from neurodial.model.hooks import Handle, installed, on_embedding, on_neurons
from neurodial.model.subject import Subject
from neurodial.tracing.cuts import SEEDS, Cuts, input_nodes, trace_graph
from neurodial.tracing.graph import Edge, GraphNode, TraceGraph
from neurodial.tracing.linearize import linearized
from neurodial.tracing.nodes import Node, NodeScore
from neurodial.tracing.question import labels
from neurodial.tracing.relevance import Relevance, target_values
from neurodial.tracing.rules import Rules


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
    cuts = Cuts([], [])

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


def _into(targets: Sequence[Node], relevance: Relevance, cuts: Cuts, nodes: Sequence[Node]) -> list[Edge]:
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


def _edges(slopes: Mapping[int, Tensor], cuts: Cuts, sources: Sequence[Node], target: str) -> list[Edge]:
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
    nodes = input_nodes(relevance.inputs, texts)
    nodes += [
        GraphNode(_neuron_id(n), "neuron", n.layer, n.token, n.neuron, relevances[n], _neuron_label(n, texts))
        for n in ordered
    ]
    return trace_graph(subject, relevance.question, relevance.value, nodes, edges)


def _neuron_id(node: Node) -> str:
    return f"neuron {node.layer}.{node.token}.{node.neuron}"


def _neuron_label(node: Node, texts: Sequence[str]) -> str:
    return f"{node.layer}.{node.neuron} at {texts[node.token]!r}"
