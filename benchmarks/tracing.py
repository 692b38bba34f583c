"""Tracing a prompt of 30 tokens on SmolLM2, against a plain forward pass of the same tokens.

Run: python benchmarks/tracing.py
"""

from __future__ import annotations

import statistics

import torch
from measure import interleaved, ratios, write

from neurodial.circuit.selection import Count
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.tracing.hidden_graph import hidden_graphs
from neurodial.tracing.nodes import select_nodes
from neurodial.tracing.question import ask
from neurodial.tracing.relevance import relevance
from neurodial.tracing.trace import trace

PROMPT = (
    "Fact: the capital of the state that contains the city of Dallas is a city on the Colorado River, and most people "
    "call it by its name, which is"
)


def measured(subject: Subject, *, target: str = " Austin", foil: str = " Dallas") -> dict[str, object]:
    """Seconds of a trace and how many forward passes it takes the time of."""
    question = ask(subject, PROMPT, target, foil, raw=True)
    tokens = torch.tensor([question.tokens], device=subject.device)

    @torch.no_grad()
    def forward() -> None:
        subject.decoder(input_ids=tokens, use_cache=False)

    seconds = interleaved(
        {
            "forward": forward,
            "nodes": lambda: select_nodes(relevance(subject, [question], device=subject.device)[0], Count(30)),
            "nodes and edges": lambda: trace(subject, question),
            "hidden states": lambda: hidden_graphs(subject, [question]),
        }
    )
    result: dict[str, object] = {"tokens": len(question.tokens)}
    result["seconds"] = {name: statistics.median(each) for name, each in seconds.items()}
    result["times a forward pass"] = {
        name: ratios(seconds, of=name, to="forward") for name in seconds if name != "forward"
    }
    return result


def main() -> None:
    result = measured(load("demo-base"))
    write("trace", result, command="python benchmarks/tracing.py")


if __name__ == "__main__":
    main()
