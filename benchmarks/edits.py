"""`audit-weights` on the small real model: against plain reading of the same files, and how often it is wrong.

1. Seconds on checkpoints in bfloat16 against reading both files from beginning to end: equal ones, one with a circuit
   baked in, and one that was fine-tuned, in which every tensor differs.
2. False alarms: adapters that were trained, merged at full size and at a tenth and a hundredth (where bfloat16 swallows
   most of the change), stored in bfloat16 and float32. None may be taken for scaled neurons.
3. Misses: two circuits baked into bfloat16 and float32; every neuron must be found within the stated error.

Run: python benchmarks/edits.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from measure import interleaved, ratios, write

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.file import read_circuit
from neurodial.edits.audit_weights import audit_weights
from neurodial.edits.weight_audit import WeightAudit
from neurodial.export.merge import Lora, read_lora
from neurodial.model.demo import organism_path
from neurodial.model.load import load
from neurodial.model.subject import Subject

ROOT = Path(__file__).resolve().parents[1]
ADAPTERS = {"refusal": organism_path(), "french_animals": ROOT / "organisms/french_animals/adapter"}
CIRCUITS = {name: ROOT / f"docs/results/demo/{name}.circuit.json" for name in ("cna", "dose")}
SIZES = (1.0, 0.1, 0.01)


@torch.no_grad()
def saved(subject: Subject, folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> str:
    """A copy of the model on disk, each two-dimensional weight of a module as `change` makes it."""
    kept = {name: module.weight.clone() for name, module in subject.model.named_modules() if hasattr(module, "weight")}
    for name, weight in kept.items():
        module = subject.model.get_submodule(name)
        module.weight.copy_(change(name, weight.double()))
    subject.model.save_pretrained(folder)
    for name, weight in kept.items():
        subject.model.get_submodule(name).weight.copy_(weight)
    return str(folder)


def added(lora: Lora, size: float) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """What merging an adapter does to a weight."""
    return lambda name, weight: weight + size * lora.change(name) if name in lora.tensors else weight


def baked(subject: Subject, circuit: Circuit) -> Callable[[str, torch.Tensor], torch.Tensor]:
    """What baking a circuit does to a weight."""
    columns = {subject.down_name(site): rows for site, rows in circuit.sites.items()}

    def change(name: str, weight: torch.Tensor) -> torch.Tensor:
        for row in columns.get(name, ()):
            weight[:, row.neuron.index] *= 1 - row.dose
        return weight

    return change


def read_whole(*folders: str) -> None:
    """Read every byte of some checkpoints, sixteen megabytes at a time."""
    for folder in folders:
        for file in Path(folder).glob("*.safetensors"):
            with file.open("rb") as stream:
                while stream.read(2**24):
                    pass


def outcome(audit: WeightAudit) -> dict[str, object]:
    """What a row of the results says of an audit."""
    return {"verdict": audit.verdict, "neurons": len(audit.neurons)}


def found(audit: WeightAudit, circuit: Circuit) -> dict[str, object]:
    """How well an audit found a circuit."""
    true = {(row.neuron.layer, row.neuron.index): 1 - row.dose for row in circuit}
    given = {(row.layer, row.index): row for row in audit.neurons}
    errors = [abs(given[place].multiplier - value) for place, value in true.items() if place in given]
    return {
        **outcome(audit),
        "in the circuit": len(true),
        "found": len(errors),
        "others": len(given.keys() - true.keys()),
        "largest error": max(errors, default=None),
        "largest stated error": max((row.error for row in audit.neurons), default=None),
        "within": all(abs(row.multiplier - true.get(place, 1)) <= row.error for place, row in given.items()),
    }


def measured() -> dict[str, object]:
    """All of it."""
    result: dict[str, object] = {"false alarms": {}, "circuits": {}}
    for dtype in ("bfloat16", "float32"):
        with tempfile.TemporaryDirectory() as folder:
            subject = load("demo-base", dtype=dtype)
            base = saved(subject, Path(folder) / "base", lambda _, weight: weight)
            for name, adapter in ADAPTERS.items():
                lora = read_lora(adapter)
                for size in SIZES:
                    copy = saved(subject, Path(folder) / "tuned", added(lora, size))
                    row = outcome(audit_weights(base, copy))
                    result["false alarms"][f"{name} {size:g} {dtype}"] = row
            for name, file in CIRCUITS.items():
                circuit = read_circuit(file)
                copy = saved(subject, Path(folder) / "baked", baked(subject, circuit))
                result["circuits"][f"{name} {dtype}"] = found(audit_weights(base, copy), circuit)
            if dtype == "bfloat16":
                result["speed"] = speed(base, str(Path(folder) / "baked"), str(Path(folder) / "tuned"))
    return result


def speed(base: str, copy: str, tuned: str, *, rounds: int = 3) -> dict[str, object]:
    """Seconds and ratios against plain reading, from the page cache."""
    seconds = interleaved(
        {
            "reading both": lambda: read_whole(base, base),
            "equal": lambda: audit_weights(base, base),
            "circuit": lambda: audit_weights(base, copy),
            "fine-tuned": lambda: audit_weights(base, tuned),
        },
        rounds=rounds,
    )
    size = sum(file.stat().st_size for file in Path(base).glob("*.safetensors"))
    compared = {name: ratios(seconds, of=name, to="reading both") for name in ("equal", "circuit", "fine-tuned")}
    return {"bytes of each": size, "seconds": seconds, "ratios": compared}


if __name__ == "__main__":
    write("edits", measured(), command="python benchmarks/edits.py")
