"""What bfloat16 changes against float32: scores, the neurons chosen, steering by hook against edited weights.

Run: python benchmarks/precision.py [demo-base | demo | SHAPE …]    (SHAPES of shapes.py need a CUDA device)
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from measure import write
from shapes import random_subject
from torch import Tensor

from neurodial.circuit.circuit import Circuit
from neurodial.discovery import find
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import own_answers
from neurodial.generation.generate import generate
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.margins.margin import Openers
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.cost import Sampling, cost
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.methods.dose.paths import EffectCost
from neurodial.methods.scores import Scores
from neurodial.model.head import hidden_states, log_probs
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.passage import Passage

PROMPTS = 24
OPENINGS = ("I'm sorry", "I can't", "I cannot", "Sorry")
DIALS = (0.0, 1.0)
DEMOS = {"demo-base": "SmolLM2-135M-Instruct", "demo": "the same with the refusal organism"}
STEERED = 0.7  # leaves 0.3 of a neuron, which no float holds exactly


def scores(subject: Subject, passages: Sequence[Passage]) -> dict[str, Scores]:
    """What the methods choose from, on the discovery prompts of refusal."""
    pairs = PairSet.read("refusal")
    openers = Openers.of([tuple(subject.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in OPENINGS])
    moments = effect(subject, openers, pairs.discovery.positive[:PROMPTS])
    effects, costs = effect_scores(moments, subject.sites), cost(subject, passages).scores
    return {
        "difference of means": find(subject, pairs, method=CNA(universal=None)).scores,
        "effect": effects,
        "cost": costs,
        "effect² / cost": EffectCost.of(effects, costs).scores,
    }


def compared(exact: Scores, rounded: Scores) -> dict[str, float]:
    """Relative error over all neurons, and how many of the strongest 0.1 % are the same."""
    one, other = exact.flat(), rounded.flat()
    strongest = max(1, len(one) // 1000)
    top = [set(each.abs().topk(strongest).indices.tolist()) for each in (one, other)]
    return {
        "relative_error": float((one - other).norm() / one.norm()),
        "strongest": strongest,
        "strongest_shared": len(top[0] & top[1]) / strongest,
    }


@torch.no_grad()
def table(subject: Subject, passages: Sequence[Passage]) -> Tensor:
    """Log-probabilities (prediction, vocab) of the model's own answers, on the CPU in float32."""
    parts = []
    for passage in passages:
        hidden = hidden_states(subject, torch.tensor([passage.tokens]))
        parts.append(log_probs(subject, hidden[0, list(passage.places)]).cpu())
    return torch.cat(parts)


def divergence(first: Tensor, second: Tensor) -> float:
    """Mean KL(first || second) in nats per prediction."""
    return float((first.double().exp() * (first.double() - second.double())).sum(dim=-1).mean())


@contextmanager
def edited(subject: Subject, circuit: Circuit) -> Iterator[None]:
    """The circuit at the dial `STEERED` as an edit of the down projections, in the model's dtype."""
    kept = [
        (column, column.clone(), row.dose)
        for row in circuit
        for column in [subject.down_weight(row.neuron.site)[:, row.neuron.index]]
    ]
    with torch.no_grad():
        for column, before, dose in kept:
            column.copy_(before * (1 - STEERED * dose))
        try:
            yield
        finally:
            for column, before, _ in kept:
                column.copy_(before)


def tables(subject: Subject, passages: Sequence[Passage], circuit: Circuit) -> dict[str, Tensor]:
    """Log-probabilities of the plain model, at dial 0, and steered by hook and by edited weights."""
    found = {"plain": table(subject, passages)}
    for name, dial in (("dial 0", 0.0), ("hook", STEERED)):
        with steer(subject, Scale(circuit, dial=dial)):
            found[name] = table(subject, passages)
    with edited(subject, circuit):
        found["edited"] = table(subject, passages)
    found["plain again"] = table(subject, passages)
    return found


def answers_alike(subject: Subject, circuit: Circuit) -> float:
    """Share of answers, 16 prompts at each dial, that are the same in one shared batch as one at a time."""
    prompts = list(read_prompt_list("neutral").split("development"))[:16]
    asked = prompts * len(DIALS)
    under = [Scale(circuit, dial=dial) for dial in DIALS for _ in prompts]
    together, alone = (
        generate(subject, asked, under=under, decoding=Decoding(max_new_tokens=24, batch_size=size))
        for size in (len(asked), 1)
    )
    return sum(one.tokens == other.tokens for one, other in zip(together, alone, strict=True)) / len(asked)


def measured(make: Callable[[], Subject]) -> dict[str, object]:
    """All comparisons on one model, given in float32 and then turned to bfloat16."""
    subject = make()
    neutral = list(read_prompt_list("neutral").split("discovery"))[:PROMPTS]
    passages = own_answers(subject, neutral, decoding=Decoding(max_new_tokens=48, batch_size=PROMPTS))
    circuit = find(subject, PairSet.read("refusal"), method=CNA(universal=None)).circuit
    exact_scores, exact = scores(subject, passages), tables(subject, passages, circuit)
    other_labels = cost(subject, passages, sampling=Sampling(seed=1)).scores
    alike = {"float32": answers_alike(subject, circuit)}
    subject.model.to(torch.bfloat16)
    rounded_scores, rounded = scores(subject, passages), tables(subject, passages, circuit)
    alike["bfloat16"] = answers_alike(subject, circuit)
    return {
        "neurons": subject.neurons,
        "predictions": len(exact["plain"]),
        "scores": {name: compared(exact_scores[name], rounded_scores[name]) for name in exact_scores},
        "cost in float32, other labels": compared(exact_scores["cost"], other_labels),
        "dial_0_is_plain_bit_for_bit": all(torch.equal(each["plain"], each["dial 0"]) for each in (exact, rounded)),
        "given_back_bit_for_bit": all(torch.equal(each["plain"], each["plain again"]) for each in (exact, rounded)),
        "nats_per_prediction": {
            "float32 plain to float32 steered": divergence(exact["plain"], exact["hook"]),
            "float32 plain to bfloat16 plain": divergence(exact["plain"], rounded["plain"]),
            "float32 steered to bfloat16 steered": divergence(exact["hook"], rounded["hook"]),
            "hook to edited weights, float32": divergence(exact["hook"], exact["edited"]),
            "hook to edited weights, bfloat16": divergence(rounded["hook"], rounded["edited"]),
        },
        "answers_alike_shared_and_alone": alike,
    }


def main(names: list[str]) -> None:
    result: dict[str, object] = {}
    file = "precision" if DEMOS.keys() & set(names) else "precision_large"
    for name in names:
        if name in DEMOS:
            result[DEMOS[name]] = measured(lambda: load(name))  # noqa: B023  # run at once
        elif torch.cuda.is_available():
            result[f"random {name}"] = measured(lambda: random_subject(name, dtype=torch.float32))  # noqa: B023
            gc.collect()
            torch.cuda.empty_cache()
        else:
            print(f"{name} needs a CUDA device, and there is none here: left out.")
            continue
        write(file, result, command="python benchmarks/precision.py " + " ".join(names))


if __name__ == "__main__":
    main(sys.argv[1:] or list(DEMOS))
