"""How time and memory grow with prompts, tokens, layers, neurons, rows of a batch and dials.

Random models, one factor at a time. Times are of the processor, on one thread, so that other programs count little; on
a GPU they are of the clock. Memory is the peak that a job adds to the model that is loaded: of a process made for it,
or what CUDA counts.

Run: python benchmarks/growth.py [cuda]
"""

from __future__ import annotations

import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from discovery import plain_forward
from measure import RESULTS, interleaved, ratios, spread, write

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.discovery import discover
from neurodial.evaluation.report.plots import Series, lines
from neurodial.files import write_atomic
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import generate
from neurodial.intervention.scale import Scale
from neurodial.methods.cna.options import CNA
from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_model, tiny_tokenizer
from neurodial.prompts.pairs import Contrast

ROUNDS = 3
FACTORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "prompts": ("discovery", (128, 256, 512, 1024)),
    "tokens": ("discovery", (16, 32, 64, 128)),
    "layers": ("discovery", (2, 4, 8, 16)),
    "neurons": ("discovery", (256, 512, 1024, 2048)),
    "rows": ("steering", (4, 8, 16, 32)),
    "dials": ("steering", (1, 2, 4, 8)),
}
"""What grows, in which job: neurons of a layer, rows of a batch, different dials among its rows."""


@dataclass(frozen=True)
class Size:
    """The size of a job; one of these grows at a time."""

    prompts: int = 32
    tokens: int = 32
    layers: int = 4
    neurons: int = 512
    rows: int = 16
    dials: int = 4


def subject_of(size: Size, device: str) -> Subject:
    """A random model."""
    shape = {"hidden_size": 256, "intermediate_size": size.neurons, "num_hidden_layers": size.layers}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 4096}
    return Subject.of(tiny_model("llama", **shape, **heads).to(device), tiny_tokenizer(chat=False))


def texts(size: Size, count: int) -> list[str]:
    """Different from their first letters on; a letter is a token."""
    return [f"{number:05d}".ljust(size.tokens, "x") for number in range(count)]


def jobs(subject: Subject, size: Size, job: str) -> dict[str, Callable[[], object]]:
    """The job, and plain work of the same size without it."""
    if job == "discovery":
        asked = texts(size, size.prompts)
        contrast = Contrast.of(asked[::2], asked[1::2])
        tokens = subject.render(asked)
        method = CNA(universal=None)
        return {
            "job": lambda: discover(subject, contrast, method=method),
            "plain": lambda: plain_forward(subject, tokens),
        }
    asked = texts(replace(size, tokens=16), size.rows)
    rows = [Row(Neuron(number % size.layers, None, number), 1.0, 1.0) for number in range(16)]
    scales = [Scale(Circuit.of(rows), dial=1e-6 * (1 + number)) for number in range(size.dials)]
    under = [scales[row % size.dials] for row in range(size.rows)]
    decoding = Decoding(max_new_tokens=24)
    return {
        "job": lambda: generate(subject, asked, under=under, decoding=decoding),
        "plain": lambda: generate(subject, asked, decoding=decoding),
    }


def point(size: Size, job: str, device: str) -> dict[str, Any]:
    """Seconds, the ratio to plain work, and bytes that the job adds at its peak."""
    subject = subject_of(size, device)
    tasks = jobs(subject, size, job)
    seconds = interleaved(tasks, rounds=ROUNDS, clock=time.process_time if device == "cpu" else time.perf_counter)
    return {
        "seconds": spread(seconds["job"]),
        "over_plain": ratios(seconds, of="job", to="plain"),
        "peak_bytes": peak_bytes(tasks["job"], device),
    }


def peak_bytes(task: Callable[[], object], device: str) -> int:
    """What a task adds to the memory in use, at its peak."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        task()
        return int(torch.cuda.max_memory_allocated() - before)
    read, written = os.pipe()
    child = os.fork()  # a process's peak is never forgotten: each task has one of its own
    if not child:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        task()
        os.write(written, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before).encode())
        os._exit(0)
    os.close(written)
    with os.fdopen(read) as told:
        kilobytes = told.read()
    os.waitpid(child, 0)
    return int(kilobytes) * 1024


def power(values: Iterable[float], results: Iterable[float]) -> float:
    """The power of the values that the results grow with, by least squares in the logarithms.

    Example:
        >>> round(power([1, 2, 4], [3, 6, 12]), 2)
        1.0
    """
    return statistics.linear_regression(
        [math.log(value) for value in values], [math.log(result) for result in results]
    ).slope


def measured(device: str = "cpu", factors: dict[str, tuple[str, tuple[int, ...]]] | None = None) -> dict[str, Any]:
    """Every factor at each of its values."""
    found: dict[str, Any] = {}
    for factor, (job, values) in (factors or FACTORS).items():
        points = [point(replace(Size(), **{factor: value}), job, device) for value in values]
        times = [one["seconds"]["median"] for one in points]
        found[factor] = {"job": job, "values": values, "points": points, "power": power(values, times)}
        print(f"{factor}: time grows as its {found[factor]['power']:.2f}th power", flush=True)
    return found


def plot(found: dict[str, Any]) -> str:
    """Time against each factor, both over their least, as SVG."""
    series = [
        Series(
            f"{name} ({of['job']})",
            tuple(value / of["values"][0] for value in of["values"]),
            tuple(one["seconds"]["median"] / of["points"][0]["seconds"]["median"] for one in of["points"]),
        )
        for name, of in found.items()
    ]
    return lines(series, x_label="times as much of it", y_label="times as long")


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    found = measured(device)
    name = "growth" if device == "cpu" else f"growth_{device}"
    write(
        name, {"base": vars(Size()), "factors": found}, command=" ".join(["python benchmarks/growth.py", *sys.argv[1:]])
    )
    write_atomic(Path(RESULTS) / f"{name}.svg", plot(found) + "\n", overwrite=True)


if __name__ == "__main__":
    main()
