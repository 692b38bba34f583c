"""Base models against their tuned copies: what tuning did to a behaviour's circuit, for one pair or the paper's.

Run: python studies/base_tuned.py demo -o docs/results/tuning --prompts 24 (four minutes on a processor)
     python studies/base_tuned.py paper -o tuning (the instruct models of arXiv 2605.12290 and their bases; needs GPUs)

Every pair gets a report, PAIR.json; one that is there is not made again, nor are its circuits. `table` writes the table
of a folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from neurodial.circuit.file import read_circuit
from neurodial.discovery import discover
from neurodial.edits.compare_models import compare_models, with_template_of
from neurodial.edits.tuning_options import ComparingModels
from neurodial.files import write_atomic
from neurodial.methods.cna.options import CNA
from neurodial.model.load import load
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import PairSet

_PAPER = (
    "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B",
    "Qwen/Qwen2.5-1.5B", "Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-72B",
)  # fmt: skip
PRESETS: dict[str, dict[str, tuple[str, str]]] = {
    "demo": {"demo": ("demo-base", "demo")},
    "paper": {name.partition("/")[2].lower(): (name, f"{name}-Instruct") for name in _PAPER},
}
"""Base and tuned model of each pair."""


def compared(
    pair: tuple[str, str], behaviour: str, options: ComparingModels, loading: dict[str, Any], place: Path
) -> dict[str, Any]:
    """One pair's report; circuits as the paper finds them, each kept, so that a run that was stopped goes on."""
    base, tuned = (load(name, **loading) for name in pair)
    pairs = PairSet.read(behaviour)
    circuits = []
    for name, subject in (
        ("base", with_template_of(tuned, base) if options.tuned_template else base),
        ("tuned", tuned),
    ):
        path = place.parent / "circuits" / f"{place.stem}-{name}.circuit.json"
        if not path.exists():
            discover(subject, pairs, method=CNA()).write(path)
        circuits.append(read_circuit(path))
    neutral = read_prompt_list("neutral").prompts
    found = compare_models(base, tuned, pairs, neutral=neutral, circuits=(circuits[0], circuits[1]), options=options)
    return found.as_json()


def table(folder: Path) -> str:
    """The reports of a folder as a Markdown table."""
    head = (
        "pair", "shared (by chance)", "Spearman, all neurons", "change on tuned: its own, the base's, random",
        "change on base: its own, the tuned's, random", "weights",
    )  # fmt: skip
    lines = [head, ("---",) * len(head)]
    for path in sorted(folder.glob("*.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        margins = {(row["model"], row["circuit"]): row["margin"] for row in value["transfer"]}
        changes = [
            ", ".join(f"{margins[model, name] - margins[model, 'none']:+.2f}" for name in order)
            for model, order in (("tuned", ("tuned", "base", "random")), ("base", ("base", "tuned", "random")))
        ]
        shared = value["overlap"]
        counts = f"{shared['shared']} of {shared['first']} ({shared['expected']:.2f})"
        verdict = "–" if value["weights"] is None else value["weights"]["verdict"]
        lines.append((path.stem, counts, f"{value['ranks_all']:.3f}", *changes, verdict))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("preset", choices=[*PRESETS, "table"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--behaviour", default="refusal")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--only", help="one pair of the preset")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device-map", default=None)
    arguments = parser.parse_args()
    if arguments.preset != "table":
        options = ComparingModels(prompts=arguments.prompts, tuned_template=arguments.preset == "paper")
        loading = {"dtype": arguments.dtype, "device_map": arguments.device_map}
        for name, pair in PRESETS[arguments.preset].items():
            path = arguments.output / f"{name}.json"
            if path.exists() or arguments.only not in {None, name}:
                continue
            value = compared(pair, arguments.behaviour, options, loading, path)
            print(write_atomic(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n"))
    print(table(arguments.output))


if __name__ == "__main__":
    main()
