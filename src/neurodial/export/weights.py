"""The whole model with the circuit in its weights: column j of the down projection times `m_j`, experts' too.

1. Copy the checkpoint file by file (or save the live model where there is no safetensors checkpoint).
2. Change the down projections in the copy, one tensor at a time: merge the adapter, then scale the columns.
3. Tokenizer, configuration and generation configuration go along.

Nothing but one tensor is ever in memory, so a model larger than memory can be baked.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from neurodial.errors import ExportError
from neurodial.export.merge import Lora, is_plain_lora, read_lora
from neurodial.export.recipe import Recipe
from neurodial.export.tensors import Place, change_tensor, place_of, places_in
from neurodial.files import refuse_full
from neurodial.model.stored_names import stored_name, stored_tensors
from neurodial.model.subject import Subject

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_COMPANIONS = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
_LEFT = {_INDEX, "adapter_config.json", "pytorch_model.bin.index.json"}


def write_weights(subject: Subject, recipe: Recipe | None, folder: Path) -> tuple[str, ...]:
    """Write the model with the circuit in its weights into an existing folder.

    Args:
        subject: the model; with an adapter, that is merged.
        recipe: what to scale; None writes the model as it is, adapter merged.
        folder: where the files go.

    Returns:
        The dtypes in which the changed weights are stored.

    Raises:
        ExportError: the model is quantised, or its checkpoint can't be read.
        FileError: there is too little space.
    """
    if subject.quantised_maps:
        raise ExportError(
            f"{subject.label} is quantised: its columns can't be scaled without quantising again.",
            wanted="an unquantised model",
            fix="Export an adapter (--as lora), or load the model unquantised.",
        )
    source = checkpoint_of(subject)
    lora = None
    if source is not None and subject.adapter is not None:
        adapter = Path(subject.adapter.path)
        if is_plain_lora(adapter):
            lora = read_lora(adapter)
        else:
            source = None
    if source is None:
        _save_live(subject, folder)
    else:
        _copy(source, folder)
    return _change(subject, recipe, lora, folder)


def checkpoint_of(subject: Subject) -> Path | None:
    """The folder of the safetensors checkpoint that a model was loaded from.

    None where there is none, or its weights are quantised: the live ones are then written.
    """
    if subject.source is None or subject.source.endswith(".gguf"):
        return None
    folder = Path(subject.source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        commit = getattr(subject.model.config, "_commit_hash", None)
        patterns = ["*.safetensors", *_COMPANIONS]
        folder = Path(snapshot_download(subject.source, revision=commit, allow_patterns=patterns))
    config = folder / "config.json"
    if config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("quantization_config") is not None:
        return None
    return folder if shards_of(folder) else None


def shards_of(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, from its index where it has one."""
    index = folder / _INDEX
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ExportError(f"The index of the checkpoint {folder} leads out of it.", fix="Don't trust this folder.")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ExportError(f"The checkpoint {folder} lacks {', '.join(missing)}.", fix="Complete it.")
        return [folder / name for name in names]
    return [folder / _SINGLE] if (folder / _SINGLE).is_file() else []


def _copy(source: Path, folder: Path) -> None:
    shards = shards_of(source)
    refuse_full(folder, sum(shard.stat().st_size for shard in shards))
    companions = {file for pattern in _COMPANIONS for file in source.glob(pattern) if file.name not in _LEFT}
    index = [source / _INDEX] if (source / _INDEX).is_file() else []
    for file in (*shards, *index, *sorted(companions)):
        shutil.copyfile(file, folder / file.name)


def _save_live(subject: Subject, folder: Path) -> None:
    from safetensors import SafetensorError

    refuse_full(folder, sum(p.numel() * p.element_size() for p in subject.model.parameters()))
    config, generation = subject.model.config, subject.model.generation_config
    with _unchanged(config), _unchanged(config.get_text_config()), _unchanged(generation):
        try:
            subject.model.save_pretrained(folder)
        except SafetensorError as error:
            raise OSError(str(error)) from error
    subject.tokenizer.save_pretrained(folder)


@contextmanager
def _unchanged(settings: object) -> Iterator[None]:
    """Undo what saving a model writes into its live configuration."""
    before = dict(vars(settings)) if settings is not None else {}
    try:
        yield
    finally:
        if settings is not None:
            vars(settings).clear()
            vars(settings).update(before)


def _change(subject: Subject, recipe: Recipe | None, lora: Lora | None, folder: Path) -> tuple[str, ...]:
    places = {name: place for shard in shards_of(folder) for name, place in places_in(shard).items()}
    changes: dict[str, list[Callable[[Tensor], Tensor]]] = {}
    if lora is not None:
        for module in lora.tensors:
            changes.setdefault(module, []).append(partial(_merge, lora, module))
    if recipe is not None:
        for site in recipe.sites:
            scale = partial(_scale, recipe, site.layer, subject.mlp(site).transposed)
            changes.setdefault(subject.down_name(site), []).append(scale)
    dtypes = set()
    for module, steps in changes.items():
        stored = stored_name(subject.model, f"{module}.weight")
        known = stored if stored in places else f"{module}.weight"
        place = place_of(places, known, f"{_tail(known.removesuffix('.weight'))}.weight")
        for step in steps:
            change_tensor(place, step)
        dtypes.add(place.dtype)
    if recipe is not None:
        for layer in recipe.routed:
            dtypes |= _scale_experts(subject, recipe, layer, places)
    return tuple(sorted(dtypes))


def _scale_experts(subject: Subject, recipe: Recipe, layer: int, places: Mapping[str, Place]) -> set[str]:
    """Scale columns of a layer's experts in the tensors that the checkpoint keeps them in; the dtypes of those.

    Checkpoints keep each expert by itself, or all of them in one tensor of whatever order. The multipliers, one for
    each number of the live weight, go through transformers' own way back to the checkpoint, which only cuts and turns.
    """
    experts = subject.experts(layer)
    name = subject.experts_name(layer)
    factors = torch.ones_like(subject.model.get_parameter(name), dtype=torch.float32, device="cpu")
    columns = factors.reshape(experts.experts, -1, factors.shape[-1])
    columns = columns.mT if experts.transposed else columns
    for (expert, index), multiplier in recipe.routed_multipliers(layer).items():
        columns[expert, :, index] = multiplier
    dtypes = set()
    for stored, factor in stored_tensors(subject.model, name, factors).items():
        if bool((factor == 1).all()):
            continue
        place = place_of(places, stored, _tail(stored))
        if place.shape != tuple(factor.shape):
            raise ExportError(
                f"The checkpoint keeps {stored} as {place.shape}, not as {tuple(factor.shape)}.",
                wanted="the order of transformers' own conversion",
                fix="Save the model with save_pretrained and export from that folder.",
            )
        change_tensor(place, partial(torch.mul, factor.double()))
        dtypes.add(place.dtype)
    return dtypes


def _merge(lora: Lora, module: str, weight: Tensor) -> Tensor:
    return weight + lora.change(module)


def _scale(recipe: Recipe, layer: int, transposed: bool, weight: Tensor) -> Tensor:  # noqa: FBT001  # for partial
    multipliers = recipe.multipliers(layer)
    scaled = weight.clone()
    columns = scaled.T if transposed else scaled
    columns[:, list(multipliers)] *= torch.tensor(list(multipliers.values()), dtype=weight.dtype)
    return scaled


def _tail(module: str) -> str:
    """A module's name from the last number on: the block's number and what follows, the same in every layout."""
    parts = module.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] :]) if numbers else parts[-1]
