"""Discovery in real vLLM against the same discovery in transformers: docs/results/vllm_discovery.json.

The demo's model with its organism merged in, and tiny random models where several processes or experts are the point.
Each row: how many neurons are the same, and the largest difference of a score beside the largest score.

Run: python -m scripts.vllm_discovery [--work FOLDER] [--part NAME] (some minutes each; `make setup-engines` first)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import drivers
from scripts.vllm_rows import measure_rows

import neurodial as nd
from neurodial.discovery import find
from neurodial.engines.vllm_engine import VLLM
from neurodial.model.load import load
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.behaviours import read_pairs
from neurodial.prompts.pairs import Contrast

REPORT = drivers.ROOT / "docs" / "results" / "vllm_discovery.json"
SIZES = {"hidden_size": 128, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320}
DENSE = {**SIZES, "intermediate_size": 64}
ROUTED = {**SIZES, "intermediate_size": 64, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64}


MADE_UP = Contrast.of([f"harm number {n} " + "x" * n for n in range(12)], [f"help {n} with it" for n in range(9)])


class Case(NamedTuple):
    """A row of the report.

    Attributes:
        what: in words.
        options: of vLLM.
        neurons: how many are chosen.
        model: writes the model to a folder.
        score: of CNA.
    """

    what: str
    options: tuple[str, ...]
    neurons: int
    model: Callable[[Path], None]
    score: str = "delta"


def demo(folder: Path) -> None:
    """The demo model, its organism merged in."""
    subject = load("demo")
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)


def tiny(family: str, sizes: dict[str, int]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        subject = tiny_subject(family, **sizes)
        subject.model.save_pretrained(folder)
        subject.tokenizer.save_pretrained(folder)

    return write


CHUNKED = ("--distributed-executor-backend", "uni", "--max-num-batched-tokens", "64", "--max-num-seqs", "5")
CASES = {
    "demo": Case("SmolLM2-135M with the refusal organism", (), 46, demo),
    "demo-auroc": Case("the same, score auroc", (), 46, demo, "auroc"),
    "chunked": Case("tiny llama, prompts in chunks of at most 64 tokens", CHUNKED, 6, tiny("llama", DENSE)),
    "tp2": Case("tiny llama, tensor parallel 2", ("--tensor-parallel-size", "2"), 6, tiny("llama", DENSE)),
    "experts": Case("tiny Qwen2-MoE with shared experts", (), 6, tiny("qwen2_moe", ROUTED)),
    "experts-tp2": Case(
        "the same, tensor parallel 2", ("--tensor-parallel-size", "2"), 6, tiny("qwen2_moe", ROUTED)
    ),
    "experts-ep2": Case(
        "the same, expert parallel over 2", ("--tensor-parallel-size", "2", "--enable-expert-parallel"), 6,
        tiny("qwen2_moe", ROUTED),
    ),
}  # fmt: skip


def measured(case: Case, folder: Path) -> dict[str, Any]:
    model = folder / case.model.__qualname__.split(".")[0] if case.model is demo else folder / case.what.split(",")[0]
    if not model.exists():
        case.model(model)
    contrast = read_pairs("refusal").discovery if case.model is demo else MADE_UP
    method = nd.CNA(score=case.score, select=nd.Count(case.neurons))
    options = ("--dtype", "float32", "--block-size", "32", *case.options)
    begun = time.monotonic()
    there = find(VLLM(model, options, folder=folder / "gathered"), contrast, method=method)
    seconds = time.monotonic() - begun
    here = find(load(model), contrast, method=method)
    scores, others = here.scores.flat(), there.scores.flat()
    routed = sum(row.neuron.expert is not None for row in there.circuit)
    return {
        "what": case.what,
        "options": " ".join(options),
        "score": case.score,
        "split": "refusal, discovery" if case.model is demo else "made up",
        "prompts": len(contrast.positive) + len(contrast.negative),
        "neurons": len(scores),
        "chosen": case.neurons,
        "same": len(here.circuit.neurons & there.circuit.neurons),
        "in_experts": routed,
        "difference": float((scores - others).abs().max()),
        "largest": float(scores.abs().max()),
        "same_universal": here.circuit.origin.universal == there.circuit.origin.universal,
        "same_stability": here.circuit.stability == there.circuit.stability,
        "seconds": round(seconds, 1),
        "engine": dict(there.circuit.origin.engine or {}),
    }


def main() -> None:
    """Measure and write."""
    os.environ.update(drivers.VLLM_SETTINGS | {"NEURODIAL_VLLM_PYTHON": drivers.interpreter("vLLM")})
    about = {
        "command": "python -m scripts.vllm_discovery",
        "filter": "universal neurons are found on the diverse prompts, and left out",
    }
    measure_rows(__doc__, REPORT, CASES, lambda name, folder: measured(CASES[name], folder), about)


if __name__ == "__main__":
    main()
