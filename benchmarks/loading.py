"""The share of loading that measuring the layout takes: a Llama of a billion random weights on disk, and SmolLM2.

Run: python benchmarks/loading.py    (writes 2.5 GB into the temporary folder, and removes them)
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measure import spread, write
from shapes import SHAPES

from neurodial.model import find_layout as measuring
from neurodial.model.load import load
from neurodial.model.tiny import tiny_tokenizer

PAGE = 4096
"""Bytes that a system reads at least; one of each is enough to have a file in memory."""


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Inside, `Subject.of` reads all weights and runs a plain pass before it measures the layout; all three are timed.

    Weights are mapped from the file and read when they are first used: loading is opening the file and reading them.
    """
    find = measuring.find_layout

    @torch.no_grad()
    def found(model: Any) -> object:
        times = [time.perf_counter()]
        for parameter in model.parameters():
            parameter.detach().flatten().view(torch.uint8)[::PAGE].sum()
        times.append(time.perf_counter())
        model(input_ids=measuring.ordinary_tokens(model), use_cache=False)
        times.append(time.perf_counter())
        own = time.process_time()
        layout = find(model)
        times.append(time.perf_counter())
        read, first, found = (later - earlier for earlier, later in pairwise(times))
        seconds.update(read=read, first_pass=first, layout=found, layout_processor=time.process_time() - own)
        return layout

    with patch("neurodial.model.subject.find_layout", found):
        yield


def loaded(source: str, *, cold: bool = False) -> dict[str, object]:
    """Seconds of loading, of a plain pass and of the layout, as in a fresh process, and what the proof was.

    Args:
        source: the model.
        cold: let the system forget the checkpoint's pages first.
    """
    for file in Path(source).glob("*.safetensors") if cold else ():
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    measuring._SHAPES.clear()  # noqa: SLF001  # a second model of the same shape is quicker
    seconds: dict[str, float] = {}
    start = time.perf_counter()
    with timed(seconds):
        subject = load(source)
    whole = time.perf_counter() - start
    proof = subject.layout.proof
    assert proof is not None  # noqa: S101  # it was measured
    return {
        "parameters": subject.model.num_parameters(),
        "dtype": str(subject.dtype).removeprefix("torch."),
        "cold": cold,
        "seconds": {"open": whole - seconds["read"] - seconds["first_pass"] - seconds["layout"], **seconds},
        "blocks_in_full": proof.in_full,
        "blocks_by_closure": proof.by_closure,
        "replays": proof.replays,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, object]:
    """The runs, and the spread of the layout's seconds and of their share in opening, reading and finding it."""
    seconds = [run["seconds"] for run in runs]
    loading = [each["open"] + each["read"] + each["layout"] for each in seconds]
    return {
        "runs": runs,
        "layout_seconds": spread([each["layout"] for each in seconds]),
        "layout_processor_seconds": spread([each["layout_processor"] for each in seconds]),
        "layout_over_loading": spread([each["layout"] / all_ for each, all_ in zip(seconds, loading, strict=True)]),
        "layout_over_first_pass": spread([each["layout"] / each["first_pass"] for each in seconds]),
    }


def checkpoint(folder: Path, shape: str) -> str:
    """A model of random weights of a shape in bfloat16, on disk; a million numbers again and again."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**SHAPES[shape], bos_token_id=256, eos_token_id=257, pad_token_id=258)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.to_empty(device="cpu")
    some = (0.02 * torch.randn(1 << 20)).to(torch.bfloat16)
    for parameter in model.parameters():
        for part in parameter.data.flatten().split(len(some)):
            part.copy_(some[: len(part)])
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    os.sync()
    return str(folder)


def main() -> None:
    small = [loaded("demo-base") for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        source = checkpoint(Path(folder), "llama-1b")
        cold = [loaded(source, cold=True) for _ in range(2)]
        warm = [loaded(source) for _ in range(2)]
    result = {"smollm2": summary(small), "llama-1b, cold": summary(cold), "llama-1b, cached": summary(warm)}
    write("loading", result, command="python benchmarks/loading.py")


if __name__ == "__main__":
    main()
