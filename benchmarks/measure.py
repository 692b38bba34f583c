"""What the benchmarks share: interleaved timing, medians, and a results file with the machine and the versions."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from neurodial.files import write_atomic
from neurodial.provenance import now, versions

RESULTS = Path(__file__).parent / "results"


def interleaved(
    tasks: dict[str, Callable[[], object]], *, rounds: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each task, run in turn so that a drift of the machine's speed meets all of them alike.

    The processor's own clock (`time.process_time`) leaves out the time that other programs had on a shared machine; it
    is for one thread.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            start = clock()
            task()
            wait()
            if turn:  # the first round warms up
                seconds[name].append(clock() - start)
    return seconds


def wait() -> None:
    """Return when an accelerator, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratios(seconds: dict[str, list[float]], *, of: str, to: str) -> dict[str, float]:
    """Minimum, median and maximum of the ratio of two tasks, round by round."""
    each = [first / second for first, second in zip(seconds[of], seconds[to], strict=True)]
    return spread(each)


FLOOR = "matrix product"
"""The task that says what the machine can do: one large matrix product."""


def with_floor(
    tasks: dict[str, Callable[[], object]], device: torch.device, dtype: torch.dtype
) -> dict[str, Callable[[], object]]:
    """The tasks and the one that their floor is reckoned from, for `interleaved`."""
    size = 2048 if device.type == "cpu" else 8192
    square = torch.rand(size, size, device=device, dtype=dtype)
    return {**tasks, FLOOR: lambda: square @ square}


def over_floor(tasks: dict[str, Callable[[], object]], seconds: dict[str, list[float]]) -> dict[str, object]:
    """How many times its floor each task takes, round by round, and the operations counted in it.

    The floor: the task's matrix products alone, each as fast as one large product on the same machine in the same
    round. Sums, norms, attention's softmax and what is read from memory come on top. A task that takes less than its
    floor has its products counted too high, or the large one was disturbed.
    """
    counts = {name: operations(task) for name, task in tasks.items()}
    reference = counts[FLOOR]
    times = {
        name: spread(
            [
                spent * reference / (count * product)
                for spent, product in zip(seconds[name], seconds[FLOOR], strict=True)
            ]
        )
        for name, count in counts.items()
        if name != FLOOR and count
    }
    return {"operations": counts, "times": times}


def operations(task: Callable[[], object]) -> int:
    """Floating-point operations of a task's matrix products, counted as they run; a product and a sum are two."""
    counter = FlopCounterMode(display=False)
    with counter:
        task()
    return int(counter.get_total_flops())


def spread(values: list[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    found: dict[str, object] = {
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
    }
    if torch.cuda.is_available():
        found["accelerator"] = torch.cuda.get_device_name()
    return found


def write(name: str, result: dict[str, object], *, command: str) -> None:
    """Write a result beside the others, and print it."""
    whole = {
        "command": command,
        "created": now(),
        "machine": machine(),
        "versions": versions(),
        **result,
    }
    print(json.dumps(result, indent=1))
    write_atomic(RESULTS / f"{name}.json", json.dumps(whole, indent=1) + "\n", overwrite=True)
