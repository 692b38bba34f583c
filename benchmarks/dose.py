"""Dose on the demo model with the shipped prompts of refusal and the shipped neutral prompts: seconds of each part.

Against plain forward passes of the discovery prompts of both sides, taken before and after. One run: it takes minutes.

Run: python benchmarks/dose.py
"""

from __future__ import annotations

import time

from discovery import plain_forward
from measure import interleaved, spread, write

from neurodial.discovery import discover
from neurodial.evaluation.detectors.registry import shows_of
from neurodial.methods.dose.options import Dose
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.render import render


def measured(subject: Subject, pairs: PairSet, *, rounds: int = 3) -> dict[str, object]:
    """Seconds of the whole and of each part, and how many plain passes of the discovery prompts the whole is."""
    both = [example.prompt for example in (*pairs.discovery.positive, *pairs.discovery.negative)]
    sequences = render(subject.tokenizer, both)

    def passes() -> list[float]:
        return interleaved({"plain": lambda: plain_forward(subject, sequences)}, rounds=rounds)["plain"]

    plain = passes()
    start = time.perf_counter()
    circuit = discover(subject, pairs, method=Dose(), shows=shows_of(pairs.behaviour))
    whole = time.perf_counter() - start
    plain += passes()
    report = circuit.origin.report
    assert report is not None  # noqa: S101  # found by Dose
    return {
        "prompts": len(both),
        "tokens": sum(map(len, sequences)),
        "seconds": whole,
        "seconds_by_part": report.seconds,
        "plain_pass_seconds": plain,
        "in_plain_passes": spread([whole / one for one in plain]),
        "margin": report.measured.margin,
        "divergence": report.measured.divergence,
    }


def main() -> None:
    result = {"model": "demo, float32", **measured(load("demo"), PairSet.read("refusal"))}
    write("dose", result, command="python benchmarks/dose.py")


if __name__ == "__main__":
    main()
