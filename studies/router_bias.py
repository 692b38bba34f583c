"""A bias on the router's logits of a Mixtral, as a dial beside neurons: one number for each layer and expert.

1. Where a token goes is a top-k of the logits plus the bias; gradients pass the routing weights, not the choice.
2. Effect and cost of each bias are those of Dose with the bias in the place of a neuron's dose: the margin's slope on
   the discovery prompts, and the mean squared slope of labels drawn on neutral answers, per prediction.
3. Directions: minus effect over damped cost, all biases together; and single biases, those of largest effect squared
   over cost. Along each a line search for the greatest strength within the budget, on the development split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.generation.divergence import Divergence, measure_divergence, unsteered_states
from neurodial.intervention.scale import Scale
from neurodial.margins.margin import Margin
from neurodial.margins.measure import measure_margins
from neurodial.model.head import hidden_states, logits
from neurodial.model.subject import Subject
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example

STRENGTHS = [0.05 * 1.35**step for step in range(20)]  # logits: 0.05 to 15, of the largest bias
SINGLE = 3  # single biases that are tried


@contextmanager
def biased(subject: Subject, bias: Tensor) -> Iterator[None]:
    """The model with a bias (layer, expert) on its routers' logits."""
    gates = [subject.blocks[layer].get_submodule("mlp.gate") for layer, _ in subject.layout.experts]
    for gate, row in zip(gates, bias, strict=True):
        gate.forward = partial(_routed, gate, row)
    try:
        yield
    finally:
        for gate in gates:
            del gate.forward


def _routed(gate: Any, bias: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    raw = functional.linear(hidden.reshape(-1, gate.hidden_dim), gate.weight) + bias
    values, chosen = raw.float().softmax(dim=-1).topk(gate.top_k, dim=-1)
    return raw, values / values.sum(dim=-1, keepdim=True), chosen


@dataclass(frozen=True)
class Measured:
    """Damage and margins under one bias."""

    divergence: Divergence
    margins: list[float]


def measured(
    subject: Subject, bias: Tensor, margin: Margin, examples: Sequence[Example], passages: Sequence[Passage]
) -> Measured:
    """Damage on neutral answers against the model without the bias, and the margins with it."""
    plain = unsteered_states(subject, passages)
    nothing = Scale(Circuit.of([Row(Neuron(next(subject.layout.experts)[0], 0, 0), 1.0, 1.0)]), dial=0.0)
    with biased(subject, bias):
        [damage] = measure_divergence(subject, passages, [nothing], unsteered=plain)
        return Measured(damage, measure_margins(subject, margin, examples))


def effects(subject: Subject, margin: Margin, examples: Sequence[Example]) -> Tensor:
    """The mean slope of the margin in each bias, (layer, expert)."""
    prompts = subject.render([example.prompt for example in examples])
    found = []
    for prompt, example in zip(prompts, examples, strict=True):
        bias = _zeros(subject)
        with biased(subject, bias):
            rows = margin.rows(subject, prompt, example)
            hidden = [hidden_states(subject, torch.tensor([row]))[0] for row in rows]
            value = margin.value(subject, rows, hidden, len(prompt))
        found.append(torch.autograd.grad(value, bias)[0])
    return torch.stack(found).mean(dim=0).double()


def costs(subject: Subject, passages: Sequence[Passage], *, draws: int = 2, seed: int = 0) -> Tensor:
    """The curvature of KL per prediction in each bias, (layer, expert)."""
    generator = torch.Generator().manual_seed(seed)
    total = _zeros(subject).detach().double()
    for passage in passages:
        bias = _zeros(subject)
        with biased(subject, bias):
            hidden = hidden_states(subject, torch.tensor([passage.tokens]))[0, list(passage.places)]
            table = logits(subject, hidden).log_softmax(dim=-1)
        for _ in range(draws):
            labels = torch.multinomial(table.detach().exp(), 1, generator=generator)
            [slope] = torch.autograd.grad(table.gather(1, labels).sum(), bias, retain_graph=True)
            total += slope.double().square()
    return total / (draws * sum(passage.scored for passage in passages))


def directions(effect: Tensor, cost: Tensor) -> dict[str, Tensor]:
    """Directions that lower the margin to first order, the largest bias of each 1."""
    damped = cost + cost[cost > 0].median()
    together = -effect / damped
    found = {"all biases": together / together.abs().max()}
    best = (effect.square() / damped).flatten().topk(SINGLE).indices.tolist()
    for place in best:
        layer, expert = divmod(place, effect.shape[1])
        one = torch.zeros_like(effect)
        one[layer, expert] = -effect[layer, expert].sign()
        found[f"layer {layer}, expert {expert}"] = one
    return found


def searched(ways: dict[str, Tensor], measure: Callable[[Tensor], Measured], budget: float) -> tuple[str, Tensor]:
    """The direction's name and the bias along it with the lowest mean margin within the budget."""
    best: tuple[float, str, Tensor] | None = None
    for name, direction in ways.items():
        for strength in STRENGTHS:
            bias = (strength * direction).float()
            found = measure(bias)
            if found.divergence.mean > budget:
                break
            if best is None or fmean(found.margins) < best[0]:
                best = fmean(found.margins), name, bias
    if best is None:
        raise SystemExit(f"No bias keeps the budget of {budget} nats.")
    return best[1:]


def _zeros(subject: Subject) -> Tensor:
    numbers = [site.experts for _, site in subject.layout.experts]
    return torch.zeros(len(numbers), numbers[0], requires_grad=True)
