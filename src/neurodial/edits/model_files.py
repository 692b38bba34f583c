"""The files of a model, opened without loading it: safetensors folders, sharded or not, and GGUF files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurodial.edits.stored import StoredTensor, rows_and_columns, stored
from neurodial.edits.tensor_names import Form
from neurodial.errors import ExportError, LayoutError, ModelError, UnknownNameError
from neurodial.export.tensors import places_in
from neurodial.export.weights import shards_of
from neurodial.model.engine_names import ENGINE_NAMES
from neurodial.model.known_models import KnownModel, known_model

_WANTED = "a folder with safetensors files and config.json, a GGUF file, an adapter's folder, or a Hub id"


@dataclass(frozen=True, eq=False)
class ModelFiles:
    """A model as it lies on disk.

    Attributes:
        label: how the user named it.
        form: safetensors or gguf.
        known: what is known of its model type.
        model_type: what its configuration calls it; for a GGUF file, the architecture.
        layers: number of blocks.
        tensors: by name.
    """

    label: str
    form: Form
    known: KnownModel
    model_type: str
    layers: int
    tensors: Mapping[str, StoredTensor]


def find(source: str) -> Path:
    """The file or folder that a name stands for.

    Raises:
        ModelError: there is none.
    """
    if source in {"demo", "demo-base"}:
        from neurodial.model.demo import demo_parts

        model, adapter = demo_parts(source)
        return adapter or find(str(model))
    path = Path(source).expanduser()
    if path.exists():
        return path
    if len(path.parts) != 2 or path.suffix in {".gguf", ".safetensors"}:
        raise ModelError(f"There is no model {source!r}.", wanted=_WANTED)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(source, allow_patterns=["*.safetensors", "*.safetensors.index.json", "config.json"])
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(f"There is no model {source!r}, here or on the Hub.", wanted=_WANTED) from error


def gguf_in(path: Path) -> Path | None:
    """The GGUF file that a path names, itself or as the one in the folder; None where there is none, or several."""
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        return files[0] if len(files) == 1 else None
    return path if path.suffix == ".gguf" else None


def open_model(path: Path, label: str) -> ModelFiles:
    """Open a model's files.

    Raises:
        ModelError: it is not a checkpoint, or is damaged.
        LayoutError: the model type is not known, or none of its neurons are.
    """
    file = gguf_in(path)
    if file is not None:
        return open_gguf(file, label)
    folder = path if path.is_dir() else path.parent
    try:
        files = [path] if path.suffix == ".safetensors" else shards_of(folder) if path.is_dir() else []
        places = {name: place for file in files for name, place in places_in(file).items()}
    except ExportError as error:
        raise ModelError(error.problem, wanted=error.wanted, fix=error.fix) from error
    if not places:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
        fix = "Save it with save_pretrained, which writes safetensors." if pickled else None
        raise ModelError(f"{label} is not a checkpoint.", wanted=_WANTED, fix=fix)
    settings = _text_settings(folder, label)
    tensors = {name: stored(place, name) for name, place in places.items()}
    model_type = str(settings["model_type"])
    layers = int(settings.get("num_hidden_layers") or settings.get("n_layer") or 0)
    return ModelFiles(label, "safetensors", _known(model_type, label), model_type, layers, tensors)


def _known(model_type: str, label: str) -> KnownModel:
    try:
        known = known_model(model_type)
    except UnknownNameError as error:
        raise LayoutError(f"{label} is of the model type {model_type}, which was not tried.", fix=error.fix) from error
    if known.mlp != "dense":
        reason = known.absent or "the weights of its routed experts can't be compared yet."
        raise LayoutError(f"{label} is of the model type {model_type}: {reason}", wanted="a dense model")
    return known


def _text_settings(folder: Path, label: str) -> dict[str, Any]:
    config = folder / "config.json"
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        settings = settings.get("text_config") or settings
        settings["model_type"]  # a configuration without it is none
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{label} has no configuration that can be read: {config}.",
            wanted="config.json with a model_type beside the weights",
            fix="It says what the tensors are; copy it from the base model.",
        ) from error
    return dict(settings)


def open_gguf(file: Path, label: str) -> ModelFiles:
    """Open a GGUF file of a whole model.

    Raises:
        ModelError: it is damaged, one part of several, or of an architecture whose names are not known.
    """
    reader = gguf_reader(file)
    architecture = str(reader.fields["general.architecture"].contents())
    engines = next((names for names in ENGINE_NAMES if names.gguf == architecture), None)
    if engines is None:
        architectures = ", ".join(sorted({names.gguf for names in ENGINE_NAMES if names.gguf}))
        raise LayoutError(f"{label} is of the architecture {architecture}.", wanted=architectures)
    parts = reader.fields.get("split.count")
    if parts is not None and int(parts.contents()) > 1:
        raise ModelError(
            f"{label} is one of {parts.contents()} parts.",
            wanted="a single file",
            fix="Join them with llama-gguf-split --merge.",
        )
    tensors = {tensor.name: _gguf_tensor(file, tensor) for tensor in reader.tensors}
    if any("_exps" in name for name in tensors):
        raise LayoutError(f"{label} is a mixture of experts.", wanted="a dense model")
    field = reader.fields.get(f"{architecture}.block_count")
    layers = 0 if field is None else int(field.contents())
    return ModelFiles(label, "gguf", _known(engines.model_types[0], label), architecture, layers, tensors)


def gguf_reader(file: Path) -> Any:
    """The reader of a GGUF file.

    Raises:
        ModelError: it is none.
    """
    import gguf

    try:
        return gguf.GGUFReader(file)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ModelError(f"{file} is not a GGUF file: {error}.", fix="Was its download cut off?") from error


def _gguf_tensor(file: Path, tensor: Any) -> StoredTensor:
    rows, columns = rows_and_columns(tuple(int(size) for size in tensor.shape[::-1]))
    size = int(tensor.n_bytes) // max(rows, 1)
    return StoredTensor(tensor.name, tensor.tensor_type.name, (rows, columns), file, int(tensor.data_offset), size)
