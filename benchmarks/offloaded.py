"""Discovery on a model three times larger than the memory it may fill: block by block, batch by batch, and in memory.

A random Llama on disk; accelerate offloads what does not fit. "Batch by batch" is the plain offloaded pass: every block
is read anew for each batch. Each way runs in a process of its own. The system caches the files: on a cold or slow
disk, reading weighs more.

Run: python benchmarks/offloaded.py    (writes 3 GB into the temporary folder, and removes them)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from measure import spread, write
from transformers import LlamaConfig, LlamaForCausalLM

from neurodial.activations.collect import Reading, collect
from neurodial.activations.position import Last
from neurodial.activations.statistics import GroupedMoments
from neurodial.model import block_by_block
from neurodial.model.load import load
from neurodial.model.tiny import tiny_tokenizer

WAYS = ("block by block", "batch by batch", "in memory")
SEQUENCES, TOKENS, BUDGET = 48, 12, 48  # prompts, tokens of each, tokens of a batch: 12 batches
ROUNDS = 2


def checkpoint(folder: Path) -> int:
    """A random Llama in many small files; gives the bytes of its weights."""
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder, max_shard_size="200MB")
    tokenizer.save_pretrained(folder)
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def measured(folder: str, way: str, allowed: int) -> dict[str, float]:
    """The least seconds of one way's rounds, and how many blocks were offloaded."""
    if way == "in memory":
        subject = load(folder)
    else:
        scratch = str(Path(folder) / "offloaded")
        subject = load(folder, device_map="auto", max_memory={"cpu": allowed}, offload_folder=scratch)
    if way == "batch by batch":
        block_by_block.HELD = 1
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, 250, (SEQUENCES, TOKENS), generator=generator).tolist()
    sequences = [tuple(row) for row in tokens]
    seconds = []
    for _ in range(ROUNDS):
        moments = GroupedMoments([0] * SEQUENCES, 1)
        start = time.perf_counter()
        collect(subject, sequences, Reading(Last(), budget=BUDGET), moments.add)
        seconds.append(time.perf_counter() - start)
    offloaded = len(block_by_block.offloaded_blocks(subject))
    return {"seconds": min(seconds), "offloaded_blocks": offloaded}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--way", nargs=3, metavar=("FOLDER", "WAY", "BYTES"), help="run one way and print it as JSON")
    given = parser.parse_args()
    if given.way:
        folder, way, allowed = given.way
        print(json.dumps(measured(folder, way, int(allowed))))
        return
    with tempfile.TemporaryDirectory() as folder:
        size = checkpoint(Path(folder))
        allowed = size // 3
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                command = [sys.executable, __file__, "--way", folder, way, str(allowed)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[way].append(json.loads(done.stdout.splitlines()[-1]))
    whole = {way: [run["seconds"] for run in found] for way, found in runs.items()}
    found = {
        "weights_bytes": size,
        "allowed_bytes": allowed,
        "runs": runs,
        "block_by_block_over_batch_by_batch": spread(
            [a / b for a, b in zip(whole["block by block"], whole["batch by batch"], strict=True)]
        ),
        "block_by_block_over_in_memory": spread(
            [a / b for a, b in zip(whole["block by block"], whole["in memory"], strict=True)]
        ),
    }
    write("offloaded", found, command="python benchmarks/offloaded.py")


if __name__ == "__main__":
    main()
