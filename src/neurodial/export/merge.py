"""Merging a LoRA adapter into weights that are read one at a time.

`W + scale * B @ A`, scale = alpha / rank (alpha / sqrt(rank) for rank-stabilised adapters), as PEFT defines it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from neurodial.errors import ExportError
from neurodial.export.recipe import Recipe
from neurodial.files import write_atomic
from neurodial.model.subject import Subject

_PREFIX = "base_model.model."
_UNUSUAL = (
    "use_dora",
    "alpha_pattern",
    "rank_pattern",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
)


@dataclass(frozen=True)
class Lora:
    """A plain LoRA adapter in its folder.

    Attributes:
        tensors: `lora_A` and `lora_B` of each module, by the module's name.
        scale: what `B @ A` is multiplied by.
        transposed: whether the base's weights are (in, out).
    """

    tensors: dict[str, tuple[Float[Tensor, "rank in"], Float[Tensor, "out rank"]]]
    scale: float
    transposed: bool

    def change(self, module: str) -> Tensor:
        """What is added to a module's weight, float64, in the weight's own layout."""
        down, up = self.tensors[module]
        added = self.scale * (up.double() @ down.double())
        return added.T if self.transposed else added


def read_lora(folder: Path) -> Lora:
    """Read a LoRA adapter.

    Raises:
        ExportError: it is of another kind, or does more than adding `B @ A`.
    """
    from safetensors.torch import load_file

    settings: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    unusual = [name for name in _UNUSUAL if settings.get(name)]
    kind = settings.get("peft_type")
    tensors = load_file(folder / "adapter_model.safetensors")
    modules = {name.removeprefix(_PREFIX).rpartition(".lora_")[0] for name in tensors}
    expected = {f"{_PREFIX}{module}.lora_{part}.weight" for module in modules for part in "AB"}
    if kind != "LORA" or unusual or settings.get("bias", "none") != "none" or expected != set(tensors):
        raise ExportError(
            f"The adapter {folder} is not a plain LoRA (kind {kind}{', ' if unusual else ''}{', '.join(unusual)}).",
            wanted="LoRA matrices on linear modules and nothing else",
            fix="Merge it into the model with PEFT, save that, and export from the saved folder.",
        )
    pairs = {m: (tensors[f"{_PREFIX}{m}.lora_A.weight"], tensors[f"{_PREFIX}{m}.lora_B.weight"]) for m in modules}
    rank = int(settings["r"])
    scale = settings["lora_alpha"] / (rank**0.5 if settings.get("use_rslora") else rank)
    return Lora(dict(sorted(pairs.items())), float(scale), bool(settings.get("fan_in_fan_out", False)))


def is_plain_lora(folder: Path) -> bool:
    """Whether `read_lora` can read it."""
    try:
        read_lora(folder)
    except ExportError:
        return False
    return True


def scaled_rows(subject: Subject, recipe: Recipe, lora: Lora) -> Lora:
    """The adapter with its part of the circuit's neurons scaled, for a base whose up projections were scaled.

    Where the adapter adds to an up projection, `m_j` times row j of the sum is `m_j` times the row of each.
    """
    tensors = dict(lora.tensors)
    for site in recipe.sites:
        rows = subject.mlp(site).up
        name = None if rows is None else f"{subject.layout.blocks[site.layer].path}.{rows.path}"
        if name not in tensors:
            continue
        down, up = tensors[name]
        first = up.shape[0] - subject.widths[site.layer]
        scaled = up.double().clone()
        for index, multiplier in recipe.multipliers(site.layer).items():
            scaled[first + index] *= multiplier
        tensors[name] = (down, scaled.to(up.dtype))
    return replace(lora, tensors=tensors)


def write_peft(lora: Lora, original: Path, folder: Path) -> None:
    """Write an adapter's tensors with the settings of the folder that they came from."""
    from safetensors.torch import save

    tensors = {
        f"{_PREFIX}{module}.lora_{part}.weight": tensor.contiguous()
        for module, pair in lora.tensors.items()
        for part, tensor in zip("AB", pair, strict=True)
    }
    write_atomic(folder / "adapter_model.safetensors", save(tensors, {"format": "pt"}))
    write_atomic(folder / "adapter_config.json", (original / "adapter_config.json").read_bytes())
