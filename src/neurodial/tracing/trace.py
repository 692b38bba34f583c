"""A circuit for one prediction, from question to graph, and why an answer went wrong.

1. `trace`: relevance, selection, direct edges (arXiv 2601.22594, 2508.21258).
2. `why`: target the token produced, foil the right one; heat map of the input, pruned graph over hidden states
   (arXiv 2604.17761). `mistakes` finds the two tokens by forced decoding against a reference answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from neurodial.circuit.selection import Count, Select
from neurodial.errors import TargetError
from neurodial.model.subject import Subject
from neurodial.prompts.render import Tokens, check_context
from neurodial.provenance import describe, now, versions
from neurodial.tracing.graph import TraceGraph
from neurodial.tracing.hidden_graph import Pruning, hidden_graphs
from neurodial.tracing.neuron_graph import neuron_graph
from neurodial.tracing.nodes import NodeScore, select_nodes
from neurodial.tracing.question import Question, pieces
from neurodial.tracing.relevance import Relevance, relevance, target_logits
from neurodial.tracing.rules import Rules

NODES = 30
"""Nodes of a traced circuit unless a selection is given."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A prediction taken apart.

    Attributes:
        relevance: of every neuron and hidden state.
        nodes: the circuit, best first.
        graph: input tokens, circuit neurons, target and the direct paths between them.
    """

    relevance: Relevance
    nodes: tuple[NodeScore, ...]
    graph: TraceGraph


def trace(subject: Subject, question: Question, *, select: Select | None = None, rules: Rules | None = None) -> Trace:
    """The circuit behind one prediction.

    Args:
        subject: the model.
        question: text, target and foil; `ask` makes one of words.
        select: which neurons at which tokens; the 30 most relevant by default.
        rules: of the linearised backward pass; all on by default.

    Raises:
        ContextLengthError: the prompt is longer than the context.
        GradientError: the model gives no gradients.
        ActivationError: a relevance is not finite.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject = tiny_subject()
        >>> traced = nd.trace(subject, nd.ask(subject, "Hi", "a", "b"), select=nd.Count(3))
        >>> len(traced.nodes)
        3
    """
    chosen, selection = rules or Rules(), select or Count(NODES)
    [result] = relevance(subject, [question], rules=chosen, device=subject.device)
    nodes = select_nodes(result, selection)
    graph = neuron_graph(subject, result, nodes, rules=chosen)
    origin = _origin(subject, question, chosen) | {"select": describe(selection)}
    return Trace(result, nodes, replace(graph, origin=origin))


def why(
    subject: Subject, questions: Sequence[Question], *, pruning: Pruning | None = None, rules: Rules | None = None
) -> list[TraceGraph]:
    """What in the text speaks for the produced token (the target) and what for the right one (the foil).

    The relevance of the input tokens is the heat map; the graph leads over hidden states. All questions share the
    backward passes.

    Raises:
        ContextLengthError: a prompt is longer than the context.
        GradientError: the model gives no gradients.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject = tiny_subject()
        >>> [graph] = nd.why(subject, [nd.ask(subject, "Hi", "a", "b")])
        >>> graph.target, graph.foil
        ('a', 'b')
    """
    chosen, thresholds = rules or Rules(), pruning or Pruning()
    graphs = hidden_graphs(subject, questions, pruning=thresholds, rules=chosen)
    return [
        replace(graph, origin=_origin(subject, question, chosen) | {"pruning": describe(thresholds)})
        for question, graph in zip(questions, graphs, strict=True)
    ]


@torch.no_grad()
def mistakes(subject: Subject, prompt: Tokens, reference: str, *, count: int = 1) -> list[Question]:
    """Where the model, made to follow a reference answer, would have given another token; all in one pass.

    Args:
        subject: the model.
        prompt: the rendered prompt.
        reference: the right answer, as it would follow the prompt.
        count: how many mistakes to give, the first ones.

    Returns:
        For each, the text so far, the token the model prefers as target, the reference's as foil.

    Raises:
        TargetError: the reference is empty, or the model gives every token of it.
        ContextLengthError: prompt and reference do not fit the context.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [question] = mistakes(tiny_subject(), (256, 72, 105), "yes")
        >>> question.target != question.foil
        True
    """
    right = pieces(subject.tokenizer, reference)
    if not right:
        raise TargetError("The reference answer is empty.", wanted="the answer that would have been right")
    check_context([len(prompt) + len(right)], subject.context_length)
    tokens = torch.tensor([(*prompt, *right[:-1])], device=subject.device)
    output = subject.decoder(input_ids=tokens, use_cache=False).last_hidden_state[0, len(prompt) - 1 :]
    produced = target_logits(subject, output, Rules()).argmax(dim=-1).tolist()
    questions = [
        Question((*prompt, *right[:place]), target=given, foil=expected)
        for place, (given, expected) in enumerate(zip(produced, right, strict=True))
        if given != expected
    ]
    if not questions:
        raise TargetError(
            "The model gives every token of the reference answer: nothing in it is a mistake.",
            wanted="a reference that the model departs from",
            fix="Name the two tokens yourself with --produced and --right.",
        )
    return questions[:count]


@torch.no_grad()
def likely(subject: Subject, question: Question, count: int = 5) -> list[tuple[str, float]]:
    """The most likely next tokens and their probabilities."""
    tokens = torch.tensor([question.tokens], device=subject.device)
    output = subject.decoder(input_ids=tokens, use_cache=False).last_hidden_state[0, -1:]
    top = target_logits(subject, output, Rules())[0].softmax(dim=-1).topk(count)
    return [
        (subject.tokenizer.decode([token]), probability)
        for token, probability in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def _origin(subject: Subject, question: Question, rules: Rules) -> dict[str, Any]:
    return {
        "model": describe(subject.identity),
        "question": describe(question),
        "rules": describe(rules),
        "versions": versions(),
        "created": now(),
    }
