"""Baking a circuit into an existing GGUF file, quantised ones too, without quantising again.

In a gated MLP a neuron is `act(gate) * up`, so scaling row j of the up projection scales neuron j. A quantised row is
blocks of small integers, each with one or two fp16 scales that the whole block is multiplied by: to scale the row,
scale those. The integers stay as they are. The rows of all routed experts of a layer stand in one tensor, one expert
after the other.

1. Copy the file.
2. For each neuron, multiply the scales of its row (and its bias) in the copy.
m = 0, -1 and powers of two are exact; another m is rounded to fp16 once per block.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurodial.circuit.site import Site
from neurodial.errors import ExportError
from neurodial.export.gguf_adapter import architecture_of, gguf_part
from neurodial.export.recipe import Recipe
from neurodial.files import refuse_full
from neurodial.model.expert_rows import up_rows
from neurodial.model.subject import Subject

SCALES: dict[str, tuple[int, ...]] = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
"""Where the fp16 scales stand in a block of each quantised type, in bytes."""

_PLAIN = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}

Bytes = npt.NDArray[np.uint8]


class Target(NamedTuple):
    """An up projection in a file, or those of all routed experts of a layer.

    Attributes:
        kind: its type, such as Q4_K.
        offset: its first byte in the file.
        row_size: bytes of a row.
        rows: number of rows, of one expert where there are several.
        first_row: the row of neuron 0.
        bias: first byte of the float32 bias, or None.
    """

    kind: str
    offset: int
    row_size: int
    rows: int
    first_row: int
    bias: int | None


def check_gguf(subject: Subject, recipe: Recipe) -> None:
    """Refuse, before any work, a file that can't be baked into.

    Raises:
        ExportError: the model is not a GGUF file, has no gate, or is of a type whose scales can't be patched.
    """
    targets(subject, recipe)


def targets(subject: Subject, recipe: Recipe, file: Path | None = None) -> dict[Site, Target]:
    """The up projection of each site that the recipe touches, in the model's own file or in one made from it.

    Raises:
        ExportError: the model is not a GGUF file, has no gate, or is of a type whose scales can't be patched.
    """
    import gguf

    if subject.source is None or not subject.source.endswith(".gguf"):
        raise ExportError(
            f"{subject.label} is not a GGUF file.",
            wanted="MODEL as the GGUF file to bake into",
            fix="Name the file: neurodial export model.gguf CIRCUIT --as gguf; for an adapter, --as gguf-lora.",
        )
    sites = [*recipe.sites, *(Site(layer, routed=True) for layer in recipe.routed)]
    inexact = [site for site in sites if not _up_scales(subject, site)]
    if inexact:
        experts = " of the experts" if inexact[0].routed else ""
        raise ExportError(
            f"In layer {inexact[0].layer} of {subject.label} a row of the up projection{experts} does not scale a "
            "neuron: the MLP has no gate, or up does not enter as it is.",
            wanted="a gated MLP",
            fix="Export --as weights or lora." if experts else "Export --as gguf-lora.",
        )
    reader = gguf.GGUFReader(file or subject.source)
    _check_file(reader, subject)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    return {site: _target(tensors, site, subject) for site in sites}


def bake_gguf(subject: Subject, recipe: Recipe, file: Path) -> str:
    """Write a copy of the model's GGUF file with the circuit in it; gives the coarsest type that changed.

    Raises:
        ExportError: it can't be baked into, or a result does not fit its type.
        FileError: there is too little space.
    """
    projections = targets(subject, recipe)
    source = Path(str(subject.source))
    refuse_full(file.parent, source.stat().st_size)
    shutil.copyfile(source, file)
    return coarsest(scale_rows(file, recipe, projections))


def scale_rows(file: Path, recipe: Recipe, projections: dict[Site, Target]) -> set[str]:
    """Scale the circuit's rows in a file, in place; gives the types of the weights that changed.

    Raises:
        ExportError: a result does not fit its type.
    """
    content = np.memmap(file, dtype=np.uint8, mode="r+")
    for site, target in projections.items():
        for (expert, index), multiplier in _multipliers(recipe, site).items():
            number = expert * target.rows + target.first_row + index
            start = target.offset + number * target.row_size
            row = content[start : start + target.row_size]
            row[:] = scaled_row(np.array(row), target.kind, multiplier)
            if target.bias is not None:
                place = target.bias + 4 * number
                bias = content[place : place + 4]
                bias[:] = _times(np.array(bias), np.float32, multiplier)
    content.flush()
    return {target.kind for target in projections.values()}


def _multipliers(recipe: Recipe, site: Site) -> dict[tuple[int, int], float]:
    """What each neuron of a site is multiplied by, by (expert, index); a dense MLP is expert 0."""
    if site.routed:
        return recipe.routed_multipliers(site.layer)
    return {(0, index): multiplier for index, multiplier in recipe.multipliers(site.layer).items()}


def coarsest(kinds: set[str]) -> str:
    """The precision of the coarsest of some types of a GGUF file.

    Example:
        >>> coarsest({"F32", "Q4_K", "F16"})
        'quantised'
    """
    order = ("float32", "float16", "quantised", "bfloat16")
    return max((_PLAIN.get(kind, "quantised") for kind in kinds), key=order.index)


def scaled_row(row: Bytes, kind: str, multiplier: float) -> Bytes:
    """The bytes of a row of a given type, times a number.

    Raises:
        ExportError: the type's scales can't be patched, or the result does not fit.
    """
    import gguf

    if kind == "BF16":
        wide = (row.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return _bfloat16(wide.astype(np.float64) * multiplier)
    if kind in _PLAIN:
        return _times(row, np.float32 if kind == "F32" else np.float16, multiplier)
    if kind not in SCALES:
        raise ExportError(
            f"Weights of the type {kind} can't be scaled without quantising again.",
            wanted=", ".join([*_PLAIN, *SCALES]),
            fix="Quantise the model to one of these types, or export --as gguf-lora.",
        )
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = row.copy().reshape(-1, size)
    for offset in SCALES[kind]:
        scales = np.ascontiguousarray(blocks[:, offset : offset + 2])
        blocks[:, offset : offset + 2] = _times(scales.reshape(-1), np.float16, multiplier).reshape(-1, 2)
    return blocks.reshape(-1)


def _times(content: Bytes, kind: type[np.float16 | np.float32], multiplier: float) -> Bytes:
    with np.errstate(over="ignore"):
        scaled = (content.view(kind).astype(np.float64) * multiplier).astype(kind)
    if not np.isfinite(scaled).all():
        raise ExportError(
            f"Scaled by {multiplier:g}, a weight does not fit {np.dtype(kind).name}.", fix="Choose a dial nearer to 0."
        )
    return scaled.view(np.uint8)


def _bfloat16(values: npt.NDArray[np.float64]) -> Bytes:
    import torch

    return torch.from_numpy(values).to(torch.bfloat16).view(torch.uint8).numpy()


def _check_file(reader: Any, subject: Subject) -> None:
    architecture = str(reader.fields["general.architecture"].contents())
    if architecture != architecture_of(subject):
        raise ExportError(
            f"{subject.source} is of the architecture {architecture}.", wanted=f"{architecture_of(subject)}"
        )
    split = reader.fields.get("split.count")
    if split is not None and int(split.contents()) > 1:
        raise ExportError(
            f"{subject.source} is one of {split.contents()} parts.",
            wanted="a single file",
            fix="Join them with llama-gguf-split --merge.",
        )


def _up_scales(subject: Subject, site: Site) -> bool:
    """Whether a row scales its neuron where GGUF files keep it: in a map of its own, or after the gates."""
    if site.routed:
        rows = up_rows(subject, site.layer)
        return rows is not None and rows.part in {"all", "second"}
    mlp = subject.mlp(site)
    return mlp.up_rows_scale and mlp.up is not None and mlp.up.part in {"all", "second"}


def _target(tensors: dict[str, Any], site: Site, subject: Subject) -> Target:
    *stacked, width = subject.shape(site)
    experts = stacked[0] if stacked else 1
    names = {gguf_part(subject, site, "up"): 2 * width if not site.routed and subject.mlp(site).fused else width}
    if site.routed:
        names[gguf_part(subject, site, "gate_up")] = 2 * width
    shapes = {name: [rows, experts] if stacked else [rows] for name, rows in names.items()}
    name = next((name for name in names if _is_shaped(tensors.get(f"{name}.weight"), shapes[name])), None)
    if name is None:
        first, rows = next(iter(names.items()))
        of_experts = f" for each of {experts} experts" if stacked else ""
        raise ExportError(
            f"{subject.source} has no {first}.weight of {rows} rows{of_experts}.",
            wanted="the file of such a model",
            fix="Export --as weights or lora." if stacked else None,
        )
    tensor, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
    kind = tensor.tensor_type.name
    if kind not in _PLAIN and kind not in SCALES:
        scaled_row(np.zeros(0, np.uint8), kind, 1.0)
    return Target(
        kind=kind,
        offset=int(tensor.data_offset),
        row_size=int(tensor.n_bytes) // (names[name] * experts),
        rows=names[name],
        first_row=names[name] - width,
        bias=None if bias is None else int(bias.data_offset),
    )


def _is_shaped(tensor: Any, rows: list[int]) -> bool:
    """Whether there is a tensor of such rows; llama.cpp counts the innermost axis first."""
    return tensor is not None and [int(size) for size in tensor.shape[1:]] == rows
