"""The model card: what an export is, from what, how strong, how measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from neurodial.export.equivalence import EquivalenceCheck
from neurodial.export.manifest import VERIFICATION, Manifest
from neurodial.files import write_atomic

_LIBRARY = {"lora": "peft", "vllm": "peft", "ia3": "peft", "weights": "transformers"}
_WHAT = {
    "lora": "A LoRA adapter on the down projections. Its strength is the dial.",
    "vllm": "A LoRA adapter for vLLM on the down projections. Its strength is the dial.",
    "ia3": "An IA3 adapter on the inputs of the down projections, fixed at its dial.",
    "weights": "The whole model with the circuit in its weights, fixed at its dial.",
    "gguf-lora": "A LoRA adapter for llama.cpp on the down projections. Its strength is the dial.",
    "gguf": "A GGUF file with the circuit in its weights, fixed at its dial.",
    "gguf-merged": "A GGUF file with adapter and circuit in its weights, fixed at its dial.",
}


def write_card(folder: Path, manifest: Manifest, checks: Sequence[EquivalenceCheck]) -> None:
    """Write README.md with front matter."""
    write_atomic(folder / "README.md", card_text(manifest, checks), overwrite=True)


def card_text(manifest: Manifest, checks: Sequence[EquivalenceCheck]) -> str:
    """The card as Markdown."""
    parts = [
        _front_matter(manifest),
        f"# {manifest.name} at dial {_dials(manifest)}, for {manifest.base.label}",
        _WHAT[manifest.route],
        _what_it_is(manifest),
        _use(manifest),
        _engines(manifest),
        _measured(checks),
        _licence(manifest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(manifest: Manifest) -> str:
    """YAML; JSON strings are YAML strings, so foreign names can't break it."""
    relation = {"weights": "finetune", "gguf": "quantized", "gguf-merged": "quantized"}.get(manifest.route, "adapter")
    lines = [
        "---",
        f"base_model: {json.dumps(manifest.base.label)}",
        f"base_model_relation: {relation}",
        f"library_name: {_LIBRARY.get(manifest.route, 'gguf')}",
        f"license: {json.dumps(manifest.base.licence)}" if manifest.base.licence else "license: other",
        *([] if manifest.base.licence else ["license_name: that-of-the-base-model"]),
        "tags:",
        *(f"- {tag}" for tag in ("neurodial", "steering", manifest.route)),
        "---",
    ]
    return "\n".join(lines)


def _dials(manifest: Manifest) -> str:
    if manifest.is_one_dial:
        return f"{manifest.strength:g}"
    return ", ".join(f"{part.dial:g}" for part in manifest.circuits)


def _what_it_is(manifest: Manifest) -> str:
    rows = [
        f"- circuit `{part.name}`: {part.neurons} MLP neurons, dial {part.dial:g} "
        f"(1 means: {part.direction} the behaviour); file `{part.file}`"
        for part in manifest.circuits
    ]
    identity = manifest.base.identity
    rows.append(
        f"- base model: `{manifest.base.label}`, weights digest `{str(identity.get('digest'))[:16]}`, "
        f"run in {identity.get('dtype')}"
    )
    if manifest.adapter is not None:
        beside = f" (`{manifest.adapter.file}`)" if manifest.adapter.file else ""
        types = ", ".join(f"{count} weights {way}" for way, count in manifest.adapter.types.items())
        rows.append(
            f"- the base carried an adapter; it travels: {manifest.adapter.how}{beside}{f' ({types})' if types else ''}"
        )
    rows.append(f"- {sum(manifest.ranks.values())} neurons in {len(manifest.ranks)} layers, rank {manifest.rank}")
    rows.append(f"- made with neurodial {manifest.versions.get('neurodial', '')}, {manifest.created}")
    return "\n".join(rows)


def _use(manifest: Manifest) -> str:
    strength = (
        f"At strength `s` each neuron is multiplied by `1 - s * {manifest.strength:g} * dose`: "
        f"strength 1 is dial {_dials(manifest)}, 0 the unsteered model."
        if manifest.is_one_dial
        else "Strength 1 is the mixture of the circuits at their dials, 0 the unsteered model."
    )
    python = {
        "lora": "model = PeftModel.from_pretrained(base, FOLDER)",
        "ia3": "model = PeftModel.from_pretrained(base, FOLDER)",
        "weights": "model = AutoModelForCausalLM.from_pretrained(FOLDER)",
    }
    commands = {
        "gguf-lora": "llama-server -m BASE.gguf --lora-scaled adapter.gguf:1 --cache-ram 0",
        "gguf": "llama-server -m model.gguf",
        "gguf-merged": "llama-server -m model.gguf",
    }
    if manifest.route in python:
        shown = f"```python\n{python[manifest.route]}\n```"
    else:
        shown = f"```console\n{commands.get(manifest.route) or _vllm_command(manifest)}\n```"
    dialled = manifest.route in {"lora", "vllm", "gguf-lora"}
    return "## Use\n\n" + shown + (f"\n\n{strength}" if dialled else "")


def _vllm_command(manifest: Manifest) -> str:
    """How vLLM is started with the plugin, and what a request says then."""
    beside = None if manifest.adapter is None else manifest.adapter.file
    options = next(str(note["how"]) for note in manifest.engines if note["engine"] == "vLLM")
    return (
        "NEURODIAL_VLLM=FOLDER VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 \\\n"
        f"  vllm serve {f'FOLDER/{beside}' if beside else 'BASE'} {options}\n"
        "# with neurodial installed beside vLLM (pip install --no-deps neurodial) a request names the dial:\n"
        f'# "model": "{manifest.name}@0.5"'
    )


def _engines(manifest: Manifest) -> str:
    rows = [f"| {note['engine']} | {'yes' if note['can'] else 'no'} | {note['how']} |" for note in manifest.engines]
    return "## Engines\n\n| engine | takes it | how |\n|---|---|---|\n" + "\n".join(rows)


def _measured(checks: Sequence[EquivalenceCheck]) -> str:
    head = (
        f"## Measured\n\nLargest difference of a next-token log-probability, in nats, over {checks[0].prompts} real "
        f"prompts and {checks[0].places} places; `{VERIFICATION}` has all numbers, "
        "`neurodial verify FOLDER` repeats it.\n\n"
        "| loaded by | strength | files against hook | allowed | hook against unsteered |\n|---|---|---|---|---|\n"
    )
    rows = (
        f"| {check.engine} | {check.strength:g} | {check.difference:.2g} | {check.tolerance:g} | {check.effect:.2g} |"
        for check in checks
    )
    return head + "\n".join(rows)


def _licence(manifest: Manifest) -> str:
    known = f" ({manifest.base.licence})" if manifest.base.licence else ""
    return f"## Licence\n\nThe base model's licence{known} applies to what is made from its weights, these files too."
