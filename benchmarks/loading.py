"""The share of loading that measuring the layout takes: a Llama of a billion random weights on disk, and SmolLM2.

Run: python benchmarks/loading.py    (writes 2.5 GB into the temporary folder, and removes them)
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measure import spread, write
from shapes import SHAPES

from neurodial.model import find_layout as measuring
from neurodial.model.load import load
from neurodial.model.tiny import tiny_tokenizer


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Inside, `Subject.of` runs a plain pass on as many tokens before it measures the layout; both are timed.

    Weights are mapped from the file and read when they are first used, so that loading alone is next to nothing.
    """
    find = measuring.find_layout

    @torch.no_grad()
    def found(model: Any) -> object:
        times = [time.perf_counter()]
        model(input_ids=measuring.ordinary_tokens(model), use_cache=False)
        times.append(time.perf_counter())
        layout = find(model)
        times.append(time.perf_counter())
        seconds.update(first_pass=times[1] - times[0], layout=times[2] - times[1])
        return layout

    with patch("neurodial.model.subject.find_layout", found):
        yield


def loaded(source: str) -> dict[str, object]:
    """Seconds of loading, of a plain pass and of the layout, as in a fresh process, and what the proof was."""
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
        "seconds": {"load": whole - sum(seconds.values()), **seconds},
        "blocks_in_full": proof.in_full,
        "blocks_by_closure": proof.by_closure,
        "replays": proof.replays,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, object]:
    """The runs, and the spread of the layout's seconds and of their share in loading, first pass and layout."""
    seconds = [run["seconds"] for run in runs]
    return {
        "runs": runs,
        "layout_seconds": spread([each["layout"] for each in seconds]),
        "layout_over_all": spread([each["layout"] / sum(each.values()) for each in seconds]),
        "layout_over_first_pass": spread([each["layout"] / each["first_pass"] for each in seconds]),
    }


def checkpoint(folder: Path, shape: str) -> str:
    """A model of random weights of a shape in bfloat16, on disk."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(**SHAPES[shape], bos_token_id=256, eos_token_id=257, pad_token_id=258)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def main() -> None:
    small = [loaded("demo-base") for _ in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        source = checkpoint(Path(folder), "llama-1b")
        large = [loaded(source) for _ in range(3)]
    result = {"smollm2": summary(small), "llama-1b": summary(large)}
    write("loading", result, command="python benchmarks/loading.py")


if __name__ == "__main__":
    main()
