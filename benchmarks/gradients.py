"""Effect and cost on SmolLM2 against a plain forward pass of the same tokens, in the same batches.

Run: python benchmarks/gradients.py
"""

from __future__ import annotations

import torch
from measure import interleaved, over_floor, ratios, with_floor, write

from neurodial.activations.batches import batches
from neurodial.activations.collect import pad_id
from neurodial.activations.groups import group_batches
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import own_answers
from neurodial.margins.margin import Openers
from neurodial.methods.dose.cost import Sampling, cost
from neurodial.methods.dose.effect import effect
from neurodial.model.gradients import gradient_tokens
from neurodial.model.head import hidden_states, log_probs
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import Tokens, render

PROMPTS = 24


@torch.no_grad()
def plain_groups(subject: Subject, groups: list[tuple[Tokens, ...]]) -> None:
    """The rows that the effect runs, through the decoder, without logits."""
    for batch in group_batches(groups, pad=pad_id(subject), budget=gradient_tokens(subject)):
        hidden_states(subject, batch.tokens)


@torch.no_grad()
def plain_passages(subject: Subject, passages: tuple[Passage, ...]) -> None:
    """The neutral answers through the decoder, with log-probabilities of the scored predictions alone."""
    sequences = [passage.tokens for passage in passages]
    for batch in batches(sequences, pad=pad_id(subject), budget=gradient_tokens(subject)):
        hidden = hidden_states(subject, batch.tokens)
        for number, row in enumerate(batch.rows):
            log_probs(subject, hidden[number, list(passages[row].places)])


def measured(subject: Subject, *, rounds: int = 3) -> dict[str, object]:
    """Ratios and seconds of effect and cost on 24 prompts each."""
    examples: list[Example] = list(PairSet.read("refusal").discovery.positive[:PROMPTS])
    tokenizer = subject.tokenizer
    texts = ("I'm sorry", "I can't", "I cannot", "Sorry")
    openers = Openers.of([tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts])
    prompts = render(tokenizer, [example.prompt for example in examples])
    groups = [openers.rows(subject, *pair) for pair in zip(prompts, examples, strict=True)]
    neutral = list(read_prompt_list("neutral").split("discovery")[:PROMPTS])
    passages = own_answers(subject, neutral, decoding=Decoding(max_new_tokens=48, batch_size=PROMPTS))
    tasks = with_floor(
        {
            "effect": lambda: effect(subject, openers, examples),
            "effect_plain": lambda: plain_groups(subject, groups),
            "cost_one_draw": lambda: cost(subject, passages, sampling=Sampling(1)),
            "cost_two_draws": lambda: cost(subject, passages, sampling=Sampling(2)),
            "cost_plain": lambda: plain_passages(subject, passages),
        },
        subject.device,
        subject.dtype,
    )
    seconds = interleaved(tasks, rounds=rounds)
    return {
        "effect_tokens": sum(len(row) for group in groups for row in group),
        "cost_tokens": sum(len(passage.tokens) for passage in passages),
        "cost_scored": sum(passage.scored for passage in passages),
        "ratios": {
            "effect": ratios(seconds, of="effect", to="effect_plain"),
            "cost, one draw": ratios(seconds, of="cost_one_draw", to="cost_plain"),
            "cost, two draws": ratios(seconds, of="cost_two_draws", to="cost_plain"),
        },
        "floor": over_floor(tasks, seconds),
        "seconds": seconds,
    }


def main() -> None:
    result = {"model": "SmolLM2-135M-Instruct, float32", **measured(load("demo-base"))}
    write("gradients", result, command="python benchmarks/gradients.py")


if __name__ == "__main__":
    main()
