"""Discovery, gradients, steering and trace on models of 1 to 32 billion random weights in bfloat16, on an accelerator.

Run: python benchmarks/large.py [SHAPE …]    (without a CUDA device it says so and does nothing)
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import discovery
import gradients
import steering
import torch
from measure import wait, write
from shapes import SHAPES, random_subject

import tracing
from neurodial.model.gradients import gradient_tokens
from neurodial.model.subject import Subject

SIZES = (1, 16, 64)


def measured(shape: str) -> dict[str, object]:
    """Every benchmark on one shape, and the memory that each took beside the weights."""
    before = torch.cuda.memory_allocated()
    subject = random_subject(shape)
    found: dict[str, object] = {
        "parameters": subject.model.num_parameters(),
        "neurons": subject.neurons,
        "weight_bytes": torch.cuda.memory_allocated() - before,
        "tokens_of_a_backward_pass": gradient_tokens(subject),
    }
    parts: dict[str, Callable[[Subject], dict[str, object]]] = {
        "discovery": lambda subject: discovery.measured(subject, rounds=3, loop=False),
        "gradients": lambda subject: gradients.measured(subject, rounds=3),
        "steering": lambda subject: steering.measured(subject, sizes=SIZES, rounds=3),
        "trace": lambda subject: tracing.measured(subject, target="A", foil="D"),
    }
    for name, part in parts.items():
        wait()
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        try:
            result = part(subject)
        except torch.OutOfMemoryError as error:
            found[name] = {"out_of_memory": str(error).splitlines()[0]}
            continue
        found[name] = {**result, "peak_bytes_beside_weights": torch.cuda.max_memory_allocated() - held}
    return found


def main(shapes: list[str]) -> None:
    if not torch.cuda.is_available():
        print("There is no CUDA device here: nothing measured, the results file stays as it is.")
        return
    result: dict[str, object] = {"dtype": "bfloat16", "weights": "random"}
    for shape in shapes:
        result[shape] = measured(shape)
        write("large", result, command="python benchmarks/large.py " + " ".join(shapes))
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main(sys.argv[1:] or list(SHAPES))
