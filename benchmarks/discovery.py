"""Discovery on SmolLM2 with 100 + 100 prompts, against a plain batched forward pass and a loop of single prompts.

Run: python benchmarks/discovery.py
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

import torch
from measure import interleaved, over_floor, ratios, with_floor, write

from neurodial.activations.batches import batches
from neurodial.activations.collect import pad_id
from neurodial.discovery import discover
from neurodial.methods.cna.options import CNA
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.prompts.pairs import Contrast, PairSet
from neurodial.prompts.render import Tokens, render


@torch.no_grad()
def plain_forward(subject: Subject, sequences: list[Tokens]) -> None:
    """All tokens through the decoder in the same batches, without hooks, logits or a shared prefix."""
    for batch in batches(sequences, pad=pad_id(subject)):
        subject.decoder(input_ids=batch.tokens.to(subject.device), use_cache=False)


@torch.no_grad()
def one_by_one(subject: Subject, sequences: list[Tokens]) -> None:
    """A naive loop: one prompt per pass, logits and all hidden states computed, as the public code does."""
    for sequence in sequences:
        subject.model(torch.tensor([sequence], device=subject.device), use_cache=False)


def memory(prompts: int) -> int:
    """Bytes of peak memory that discovery adds in this process, on a small random model of SmolLM2's width."""
    model = tiny_model("llama", hidden_size=64, intermediate_size=1536, num_hidden_layers=8)
    subject = Subject.of(model, tiny_tokenizer())
    sides = [[f"{side} {number:05d}" for number in range(prompts // 2)] for side in ("harm", "help")]
    few = Contrast.of(sides[0][:20], sides[1][:20])
    discover(subject, few, method=CNA(universal=None))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    discover(subject, Contrast.of(*sides), method=CNA(universal=None))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024


def measured(subject: Subject, *, rounds: int = 5, loop: bool = True) -> dict[str, object]:
    """Seconds and ratios of discovery with CNA on the discovery and development prompts of refusal."""
    pairs = PairSet.read("refusal")
    positive = [*pairs.discovery.positive, *pairs.development.positive]
    negative = [*pairs.discovery.negative, *pairs.development.negative]
    contrast = Contrast(tuple(positive), tuple(negative))
    sequences = render(subject.tokenizer, [example.prompt for example in (*positive, *negative)])
    tasks: dict[str, Callable[[], object]] = {
        "discover": lambda: discover(subject, contrast, method=CNA(universal=None)),
        "plain_forward": lambda: plain_forward(subject, sequences),
    }
    if loop:
        tasks["one_by_one"] = lambda: one_by_one(subject, sequences)
    tasks = with_floor(tasks, subject.device, subject.dtype)
    seconds = interleaved(tasks, rounds=rounds)
    found = {
        "prompts": len(sequences),
        "tokens": sum(map(len, sequences)),
        "seconds": seconds,
        "discover_over_plain_forward": ratios(seconds, of="discover", to="plain_forward"),
        "floor": over_floor(tasks, seconds),
    }
    return found | ({"one_by_one_over_discover": ratios(seconds, of="one_by_one", to="discover")} if loop else {})


def main() -> None:
    result = {"model": "SmolLM2-135M-Instruct, float32", **measured(load("demo-base"))}
    added = {n: int(subprocess.check_output([sys.executable, __file__, "--memory", str(n)])) for n in (100, 2000)}
    write(
        "discovery",
        {**result, "extra_peak_bytes_by_prompts": added},
        command="python benchmarks/discovery.py",
    )


if __name__ == "__main__":
    if "--memory" in sys.argv:
        print(memory(int(sys.argv[-1])))
    else:
        main()
