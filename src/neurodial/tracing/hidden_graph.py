"""Edges between hidden states, on the linearised model (arXiv 2604.17761).

1. One pass cut off after every block, as for neurons (`neuron_graph`); many prompts in one batch.
2. From the top down, one seed for each kept (depth, token) of each prompt: gradients back through a single block.
3. Keep nodes of at least `node_threshold` of the value, per depth the strongest edges that hold `edge_mass` of the
   absolute weight, and what is connected to the final token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import padded
from neurodial.activations.collect import pad_id
from neurodial.errors import OptionError
from neurodial.model.gradients import gradients
from neurodial.model.hooks import Handle, installed, on_block_output, on_embedding
from neurodial.model.subject import Subject
from neurodial.prompts.render import check_context
from neurodial.tracing.cuts import SEEDS, Cuts, input_nodes, trace_graph
from neurodial.tracing.graph import Edge, GraphNode, TraceGraph, strongest
from neurodial.tracing.linearize import linearized
from neurodial.tracing.question import Question, labels
from neurodial.tracing.relevance import target_values
from neurodial.tracing.rules import Rules


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
    cuts = Cuts([], [])

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
    cuts: Cuts, slope: Float[Tensor, "row token hidden"], least: Float[Tensor, "row"]
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
    cuts: Cuts, depth: int, slope: Tensor, chosen: Sequence[Sequence[int]]
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
    nodes = input_nodes(flows[0].relevance[:length], texts)
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
    return trace_graph(subject, question, value, nodes, edges).connected()


def _hidden_id(depth: int, token: int) -> str:
    return f"hidden {depth}.{token}" if depth else f"input {token}"
