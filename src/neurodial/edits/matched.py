"""Base and candidate, tensor by tensor: which belong together, and what can't be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurodial.edits.model_files import ModelFiles, find, gguf_in, gguf_reader, open_model
from neurodial.edits.tensor_names import PartName, kept_otherwise, may_be_alone, part_of
from neurodial.edits.tensor_pairs import LowRankPair, StoredPair, TensorPair
from neurodial.errors import ExportError, ModelError, ModelMismatchError
from neurodial.export.merge import read_lora
from neurodial.export.tensors import DTYPES
from neurodial.model.engine_names import engine_names

_ADAPTER = "adapter_config.json"
_KINDS = {dtype: kind for kind, dtype in DTYPES.items()}


@dataclass(frozen=True, eq=False)
class Matched:
    """What is compared.

    Attributes:
        base: the base model's files.
        form: what the candidate is: safetensors, gguf, LoRA, IA3 or GGUF adapter.
        pairs: tensors before and after; of an adapter, those that it changes.
        vectors: for an IA3 adapter, the multipliers of each tensor's input.
        left_out: tensors that can't be compared, and why.
    """

    base: ModelFiles
    form: str
    pairs: tuple[TensorPair, ...]
    vectors: tuple[tuple[PartName, Tensor], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def match(base_name: str, candidate_name: str) -> Matched:
    """Open both and find which tensors belong together.

    Raises:
        ModelError: one of them is not a checkpoint, or tensors are missing.
        ModelMismatchError: they are of different models.
    """
    base_path, path = find(base_name), find(candidate_name)
    if (base_path / _ADAPTER).is_file():
        raise ModelError(f"{base_name} is an adapter.", wanted="the whole model that was edited, first")
    base = open_model(base_path, base_name)
    if (path / _ADAPTER).is_file() and gguf_in(path) is None:
        return _with_adapter(base, path)
    file = gguf_in(path)
    if file is not None and "adapter.type" in (fields := gguf_reader(file).fields):
        return _with_gguf_adapter(base, file, fields)
    return _two_models(base, open_model(path, candidate_name))


def _two_models(base: ModelFiles, candidate: ModelFiles) -> Matched:
    _refuse_other_model(base, candidate)
    names = _same_names(base, candidate)
    refuse_missing(base, candidate, names)
    pairs: list[TensorPair] = []
    left_out = []
    for name, tensor in base.tensors.items():
        if name not in names:
            left_out.append((name, f"{candidate.label} does not hold it"))
            continue
        other = candidate.tensors[names[name]]
        part = part_of(name, base.known, base.form)
        across = name if base.form == "gguf" else names[name]
        if base.form != candidate.form and (kept_otherwise(across, base.known) or part.is_transposed):
            left_out.append((name, "a GGUF file keeps it in another form"))
            continue
        if tensor.shape != other.shape:
            raise ModelMismatchError(
                f"{name} is {_shape(tensor.shape)} in {base.label} and {_shape(other.shape)} in {candidate.label}.",
                wanted="two checkpoints of one model",
            )
        pairs.append(StoredPair(part, tensor, other))
    used = set(names.values())
    left_out += [(name, f"{base.label} does not hold it") for name in candidate.tensors if name not in used]
    return Matched(base, candidate.form, tuple(pairs), left_out=tuple(left_out))


def _refuse_other_model(base: ModelFiles, candidate: ModelFiles) -> None:
    first, second = ((engine_names(m.known.name).gguf or m.known.name, m.known.block_names) for m in (base, candidate))
    same = first[0] == second[0] if base.form != candidate.form else first == second
    if not same or (base.layers and candidate.layers and base.layers != candidate.layers):
        raise ModelMismatchError(
            f"{base.label} is {base.model_type} of {base.layers} layers, {candidate.label} is {candidate.model_type} "
            f"of {candidate.layers} layers.",
            wanted="two checkpoints of one model",
        )


def _same_names(base: ModelFiles, candidate: ModelFiles) -> dict[str, str]:
    """What the candidate calls each of the base's tensors."""
    if base.form != candidate.form:
        checkpoint = base if base.form == "safetensors" else candidate
        theirs = gguf_names_of(checkpoint, list(checkpoint.tensors))
        if base.form != "safetensors":
            theirs = {gguf: name for name, gguf in theirs.items()}
        return {name: theirs[name] for name in base.tensors if theirs.get(name) in candidate.tensors}
    if base.form == "gguf" or base.tensors.keys() & candidate.tensors.keys():
        return {name: name for name in base.tensors if name in candidate.tensors}
    return {name: f"{prefix}{name}" for prefix in ("model.", "language_model.", "model.language_model.")
            for name in base.tensors if f"{prefix}{name}" in candidate.tensors}  # fmt: skip


def gguf_names_of(model: ModelFiles, names: Iterable[str]) -> dict[str, str]:
    """What a GGUF file calls tensors of a checkpoint; those that it does not have are left out.

    Raises:
        ModelError: llama.cpp does not run models of its type.
    """
    import gguf

    architecture = engine_names(model.known.name).gguf
    kind = next((key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture), None)
    if kind is None:
        raise ModelError(f"There are no GGUF files of {model.known.name} models.", wanted="two safetensors folders")
    known = gguf.get_tensor_name_map(kind, model.layers)
    found = {}
    for name in names:
        module, _, ending = name.rpartition(".")
        theirs = known.get_name(module)
        if theirs is not None:
            found[name] = f"{theirs}.{ending}"
    return found


def refuse_missing(base: ModelFiles, candidate: ModelFiles, names: dict[str, str]) -> None:
    """Refuse a candidate that lacks tensors, or has others.

    Raises:
        ModelError: names the first.
    """
    lacking = [name for name in base.tensors if name not in names and not may_be_alone(name)]
    used = set(names.values())
    added = [name for name in candidate.tensors if name not in used and not may_be_alone(name)]
    for owner, other, missing in ((base, candidate, lacking), (candidate, base, added)):
        if missing:
            raise ModelError(
                f"{other.label} lacks {len(missing)} of the {len(owner.tensors)} tensors of {owner.label}, such as "
                f"{missing[0]}.",
                wanted="two whole checkpoints of one model",
                fix="Was one saved in part, or under other names? Complete it, or save it with save_pretrained.",
            )


def _with_adapter(base: ModelFiles, folder: Path) -> Matched:
    settings = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
    if settings.get("peft_type") == "IA3":
        return _with_ia3(base, folder)
    try:
        lora = read_lora(folder)
    except (ExportError, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"The adapter {folder} can't be read: {error}",
            wanted="a plain LoRA or IA3 adapter",
            fix="Merge it into the model, save that, and compare the two checkpoints.",
        ) from error
    pairs: list[TensorPair] = []
    for module, (down, up) in lora.tensors.items():
        part, tensor = _module(base, module)
        first, second = (up.double().T, down.double().T) if lora.transposed else (down.double(), up.double())
        pairs.append(_low_rank(part, tensor, (first, lora.scale * second), _KINDS.get(up.dtype, "F32"), base.label))
    return Matched(base, "LoRA", tuple(pairs))


def _with_ia3(base: ModelFiles, folder: Path) -> Matched:
    from safetensors.torch import load_file

    vectors = []
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        part, stored = _module(base, name.removeprefix("base_model.model.").removesuffix(".ia3_l"))
        if tensor.numel() not in stored.shape:
            raise _other_shape(part, (tensor.numel(), 1), stored.shape, base.label)
        vectors.append((part, tensor.double().reshape(-1)))
    return Matched(base, "IA3", (), tuple(vectors))


def _with_gguf_adapter(base: ModelFiles, file: Path, fields: Any) -> Matched:
    import gguf
    import numpy as np

    matrices = {
        t.name: torch.from_numpy(np.array(t.data)).reshape(tuple(int(size) for size in t.shape[::-1]))
        for t in gguf_reader(file).tensors
    }
    alpha = float(fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    theirs = {name: name for name in base.tensors}
    if base.form == "safetensors":
        theirs = {name: own for own, name in gguf_names_of(base, base.tensors).items()}
    pairs: list[TensorPair] = []
    for name in sorted({name.rpartition(".lora_")[0] for name in matrices}):
        down, up = matrices[f"{name}.lora_a"], matrices[f"{name}.lora_b"]
        if name not in theirs:
            raise _no_place(name, base.label)
        part = part_of(theirs[name], base.known, base.form)
        first, second = down.double(), up.double() * (alpha / down.shape[0])
        if part.is_transposed:
            first, second = second.T, first.T
        kind = _KINDS.get(up.dtype, "F32")
        pairs.append(_low_rank(part, base.tensors[theirs[name]], (first, second), kind, base.label))
    return Matched(base, "GGUF adapter", tuple(pairs))


def _module(base: ModelFiles, module: str) -> tuple[PartName, Any]:
    """The base's weight of a module that an adapter names."""
    name = f"{module}.weight"
    if base.form == "gguf":
        name = gguf_names_of(replace(base, form="safetensors"), [name]).get(name, name)
    else:
        name = next((known for known in base.tensors if known == name or known.endswith(f".{name}")
                     or name.endswith(f".{known}")), name)  # fmt: skip
    if name not in base.tensors:
        raise _no_place(module, base.label)
    return part_of(name, base.known, base.form), base.tensors[name]


def _low_rank(part: PartName, tensor: Any, matrices: tuple[Tensor, Tensor], kind: str, label: str) -> TensorPair:
    down, up = matrices
    if (up.shape[0], down.shape[1]) != tensor.shape:
        raise _other_shape(part, (up.shape[0], down.shape[1]), tensor.shape, label)
    return LowRankPair(part, tensor, down, up, kind)


def _other_shape(part: PartName, shape: tuple[int, int], base: tuple[int, int], label: str) -> ModelMismatchError:
    return ModelMismatchError(
        f"The adapter is made for a {part.name} of {_shape(shape)}; that of {label} is {_shape(base)}.",
        wanted="the adapter's own base model",
    )


def _no_place(name: str, label: str) -> ModelMismatchError:
    return ModelMismatchError(
        f"{label} has no {name}, which the adapter changes.", wanted="the adapter's own base model"
    )


def _shape(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"
