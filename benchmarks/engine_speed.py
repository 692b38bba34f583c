"""What a circuit costs once exported: the weights against the unsteered model, vLLM with the adapter and without.

1. transformers: the baked weights and the model itself read the same tokens.
2. vLLM: a server without LoRA, and one with a circuit's adapter, asked for the base model and for the circuit at a
   dial. Both run throughout; the requests take turns.

Run: python benchmarks/engine_speed.py (`make setup-engines` first; without vLLM only the first part is measured)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import drivers
from measure import interleaved, ratios, write

from neurodial.circuit.file import read_circuit
from neurodial.export.equivalence import log_probabilities
from neurodial.export.export_circuit import export_circuit
from neurodial.export.manifest import read_manifest
from neurodial.intervention.scale import Scale
from neurodial.model.load import load
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.render import render

CIRCUIT = drivers.ROOT / "docs" / "results" / "demo" / "refusal.circuit.json"
TOKENS = 24
AT_ONCE = 4


def main() -> None:
    result: dict[str, object] = {"model": "demo, float32", "new_tokens_in_vllm": TOKENS}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        subject = load("demo")
        scale = Scale(read_circuit(CIRCUIT))
        prompts = list(read_prompt_list("neutral").split("development"))[:AT_ONCE]
        export_circuit(subject, scale, route="weights", output=place / "weights")
        baked = load(place / "weights")
        tokens = render(subject.tokenizer, prompts)
        seconds = interleaved(
            {
                "exported": lambda: log_probabilities(baked.model, tokens),
                "plain": lambda: log_probabilities(subject.model, tokens),
            },
            rounds=9,
        )
        result["exported_weights"] = {"seconds": seconds, "over_plain": ratios(seconds, of="exported", to="plain")}
        try:
            drivers.interpreter("vLLM")
        except drivers.MissingEngineError as error:
            result["vllm"] = str(error)
        else:
            export_circuit(subject, scale, route="vllm", output=place / "vllm")
            result["vllm"] = in_vllm(place, [list(sequence) for sequence in tokens])
    write("engine_speed", result, command="python benchmarks/engine_speed.py")


def in_vllm(place: Path, tokens: list[list[int]]) -> dict[str, object]:
    settings = {
        "NEURODIAL_VLLM": str(place / "vllm"),
        "NEURODIAL_VLLM_CACHE": str(place / "cache"),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }
    model = place / "vllm" / "merged-base"
    manifest = read_manifest(place / "vllm")
    options = drivers.lora_options(manifest.max_lora_rank or 0, slots=2)
    with (
        drivers.vllm_server(model, log=place / "plain.log") as plain,
        drivers.vllm_server(model, *options, log=place / "lora.log", **settings) as lora,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def task(address: str, name: str) -> Callable[[], object]:
            return lambda: list(pool.map(lambda prompt: drivers.next_tokens(address, name, prompt, TOKENS), tokens))

        seconds = interleaved(
            {
                "without": task(plain, "base"),
                "base": task(lora, "base"),
                "circuit": task(lora, f"{manifest.name}@0.5"),
            },
            rounds=9,
        )
    return {
        "requests_at_once": AT_ONCE,
        "rank": manifest.rank,
        "seconds": seconds,
        "circuit_over_vllm_without_lora": ratios(seconds, of="circuit", to="without"),
        "base_beside_it_over_vllm_without_lora": ratios(seconds, of="base", to="without"),
    }


if __name__ == "__main__":
    main()
