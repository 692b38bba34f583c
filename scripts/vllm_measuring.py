"""An evaluation in real vLLM against the same by our hooks in transformers: docs/results/vllm_measuring.json.

The demo's model with its organism merged in and the refusal circuit that CNA finds on it; and a tiny random model.
Each row: the largest difference of each number over all conditions, beside the range that it has over them.

Run: python -m scripts.vllm_measuring [--work FOLDER] [--part NAME] (some minutes each; `make setup-engines` first)
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import drivers
from scripts.vllm_discovery import DENSE, demo, tiny
from scripts.vllm_rows import measure_rows

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.engines.vllm_engine import VLLM
from neurodial.evaluation.results import Report
from neurodial.evaluation.store import Answers
from neurodial.margins.margin import Margin, Openers
from neurodial.model.load import load
from neurodial.model.subject import Subject

REPORT = drivers.ROOT / "docs" / "results" / "vllm_measuring.json"
SHARED = ("--dtype", "float32", "--block-size", "32")
NUMBERS = ("margin", "kl", "surprise", "right_log_likelihood", "log perplexity")
MADE_UP = nd.PairSet(
    nd.Behaviour("theft", detector="regex:[a-m]"),
    tuple(
        nd.Contrast.of([f"harm {split} {n}" + " x" * n for n in range(5)], [f"help {split} {n}" for n in range(5)])
        for split in ("one", "two", "three")
    ),
)


class Case(NamedTuple):
    """A row of the report.

    Attributes:
        what: in words.
        model: writes the model to a folder.
        circuit: finds or makes the circuit.
        pairs: reads the prompts.
        dials: of the circuit and of one random control.
        evaluation: what is measured.
        margin: where the prompts have none.
        options: of vLLM.
    """

    what: str
    model: Callable[[Path], None]
    circuit: Callable[[Subject, nd.PairSet], Circuit]
    pairs: Callable[[], nd.PairSet]
    dials: tuple[float, ...]
    evaluation: nd.Evaluation
    margin: Margin | None = None
    options: tuple[str, ...] = ()


def _made_up(subject: Subject, _: nd.PairSet) -> Circuit:
    chosen = ((0, 3, 1.0), (0, 9, 0.5), (1, 4, 1.0), (1, 60, 2.0))
    rows = [Row(Neuron(layer, None, index), 1.0, dose) for layer, index, dose in chosen]
    return Circuit.of(rows, name="made up", origin=Origin(model=subject.identity))


def _wide(subject: Subject, _: nd.PairSet) -> Circuit:
    """More neurons in a layer than an adapter has."""
    rows = [Row(Neuron(0, None, index), 1.0, 0.2 + index / 1000) for index in range(600)]
    return Circuit.of(rows, name="wide", origin=Origin(model=subject.identity))


def _found(subject: Subject, pairs: nd.PairSet) -> Circuit:
    return nd.discover(subject, pairs, method=nd.CNA(folds=0), name="refusal")


CASES = {
    "tiny": Case(
        "tiny llama",
        tiny("llama", DENSE),
        _made_up,
        lambda: MADE_UP,
        (-1.0, 0.5, 3.0),
        nd.Evaluation(
            decoding=nd.Decoding(max_new_tokens=12),
            neutral=4, over_refusal=0, perplexity=3, questions=4, seeds=(0,),
        ),
        Openers.of([(40,), (41, 42), (50,)]),
        ("--enforce-eager", "--distributed-executor-backend", "uni"),
    ),
    "wide": Case(
        "tiny llama, 600 neurons in a layer: in its own layers",
        tiny("llama", {**DENSE, "intermediate_size": 640}),
        _wide,
        lambda: MADE_UP,
        (-1.0, 0.5),
        nd.Evaluation(
            decoding=nd.Decoding(max_new_tokens=8),
            prompts=3, neutral=2, over_refusal=0, perplexity=2, questions=2, seeds=(0,), divergence_tokens=8,
        ),
        Openers.of([(40,), (41, 42), (50,)]),
        ("--enforce-eager", "--distributed-executor-backend", "uni"),
    ),
    "demo": Case(
        "SmolLM2-135M with the refusal organism",
        demo,
        _found,
        lambda: nd.PairSet.read("refusal"),
        (1.0, 2.0),
        nd.Evaluation(
            decoding=nd.Decoding(max_new_tokens=24),
            prompts=8, neutral=4, over_refusal=0, perplexity=4, questions=4, seeds=(0,), divergence_tokens=24,
        ),
    ),
}  # fmt: skip


def reports(case: Case, folder: Path) -> tuple[Report, Report]:
    """The report in vLLM and that in transformers; answers in `there` and `here` of the folder."""
    model = folder / "model"
    if not model.exists():
        case.model(model)
    pairs, subject = case.pairs(), load(model)
    circuit = case.circuit(subject, pairs)
    dials = [nd.Scale(circuit, dial=dial) for dial in case.dials]
    asked: dict[str, Any] = {"against": ("random",), "margin": case.margin}
    engine = VLLM(model, (*SHARED, *case.options), folder=folder / "measured")
    there = nd.evaluate(engine, dials, pairs, options=case.evaluation, folder=folder / "there", **asked)
    options = replace(case.evaluation, speed=False)
    return there, nd.evaluate(subject, dials, pairs, options=options, folder=folder / "here", **asked)


def largest_differences(there: Report, here: Report) -> dict[str, float]:
    """Of each number over all conditions."""
    pairs = list(zip(there.conditions, here.conditions, strict=True))
    found: dict[str, float] = {}
    for name in NUMBERS:
        values = [(number(a, name), number(b, name)) for a, b in pairs]
        found[name] = max((abs(a - b) for a, b in values if a is not None and b is not None), default=math.nan)
    rates = [abs(a.metrics[there.headline].value - b.metrics[here.headline].value) for a, b in pairs]
    return {"rate": max(rates), **found}


def number(condition: Any, name: str) -> float | None:
    """A number of a condition, perplexity by its logarithm; None where it has none."""
    estimate = condition.metrics.get(name.removeprefix("log "))
    if estimate is None:
        return None
    return math.log(estimate.value) if name.startswith("log ") else float(estimate.value)


def answers_that_differ(folder: Path) -> tuple[int, int]:
    """How many answers are not the same text, and of how many."""
    texts = [{row.place: row.answer for row in Answers.read(folder / name).generations} for name in ("there", "here")]
    places = texts[0].keys() | texts[1].keys()
    return sum(texts[0].get(place) != texts[1].get(place) for place in places), len(places)


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """A row of the report."""
    begun = time.monotonic()
    there, here = reports(case, folder)
    differ, answers = answers_that_differ(folder)
    conditions = here.conditions

    def spread(name: str) -> float:
        values = [value for condition in conditions if (value := number(condition, name)) is not None]
        return max(values) - min(values) if values else math.nan

    differences = largest_differences(there, here)
    return {
        "what": case.what,
        "options": " ".join((*SHARED, *case.options)),
        "behaviour": here.behaviour,
        "split": "test",
        "prompts": here.provenance["counts"],
        "dials": list(case.dials),
        "conditions": len(conditions),
        "seeds": list(case.evaluation.seeds),
        "answers": answers,
        "answers_that_differ": differ,
        "differences": {name: value for name, value in differences.items() if math.isfinite(value)},
        "ranges": {name: value for name in NUMBERS if math.isfinite(value := spread(name))},
        "margin": here.settings["margin_is"] if case.margin is None else "log odds of given openers",
        "seconds": round(time.monotonic() - begun, 1),
        "engine": dict(there.provenance["engine"]),
    }


def main() -> None:
    """Measure and write."""
    os.environ.update(drivers.VLLM_SETTINGS | {"NEURODIAL_VLLM_PYTHON": drivers.interpreter("vLLM")})
    about = {
        "command": "python -m scripts.vllm_measuring",
        "unit": "nats; largest difference over all conditions, and how far apart the largest and the smallest are",
    }
    measure_rows(__doc__, REPORT, CASES, lambda name, folder: measured(CASES[name], folder), about)


if __name__ == "__main__":
    main()
