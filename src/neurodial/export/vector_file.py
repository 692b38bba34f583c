"""Steering vectors in the files that other tools read: llama.cpp's control vectors (repeng's too), safetensors.

Both hold `direction.L`: what is added to the residual stream after block L, counted from 0, at strength 1.
llama.cpp adds nothing after block 0, so its files hold none for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from neurodial.errors import ExportError, FileError, OptionError
from neurodial.files import refuse_existing, write_atomic
from neurodial.intervention.vector import AddVector

_NAME = re.compile(r"direction\.(\d+)")
_ARCHITECTURE = "controlvector"


def write_vectors(
    vectors: AddVector | Sequence[AddVector], path: str | Path, *, model_hint: str = "", overwrite: bool = False
) -> Path:
    """Write vectors at their dials; two at one layer add.

    Args:
        vectors: what is added, each with its layer, alpha and dial.
        path: ends in .gguf for llama.cpp and repeng, or in .safetensors.
        model_hint: the model type, which llama.cpp shows.
        overwrite: replace a file that stands there.

    Raises:
        ExportError: a vector can't be said in this format.
        OptionError: the ending is another.
        FileError: the file exists, or can't be written.

    Example:
        >>> import tempfile, torch
        >>> import neurodial as nd
        >>> file = nd.write_vectors(nd.AddVector(torch.ones(2), layer=2, alpha=-0.5), f"{tempfile.mkdtemp()}/caa.gguf")
        >>> [(read.layer, read.vector.tolist()) for read in nd.read_vectors(file)]
        [(2, [-0.5, -0.5])]
    """
    target = refuse_existing(path, overwrite=overwrite)
    directions = _directions((vectors,) if isinstance(vectors, AddVector) else vectors)
    if target.suffix == ".safetensors":
        from safetensors.torch import save

        tensors = {f"direction.{layer}": vector for layer, vector in directions.items()}
        return write_atomic(target, save(tensors, {"format": "pt", "model_hint": model_hint}), overwrite=overwrite)
    if target.suffix != ".gguf":
        raise OptionError(f"The file is {target.name!r}.", wanted="an ending of .gguf or .safetensors")
    return write_atomic(target, _gguf(directions, model_hint), overwrite=overwrite)


def read_vectors(path: str | Path) -> tuple[AddVector, ...]:
    """Vectors from a control-vector GGUF file, or a safetensors file with `direction.L`, by layer.

    Raises:
        FileError: the file can't be read.
        ExportError: it holds something else.

    Example:
        >>> import tempfile, torch
        >>> import neurodial as nd
        >>> file = nd.write_vectors(nd.AddVector(torch.ones(2), layer=1), f"{tempfile.mkdtemp()}/caa.safetensors")
        >>> len(nd.read_vectors(file))
        1
    """
    source = Path(path)
    if not source.is_file():
        raise FileError(f"There is no file {source}.", wanted="a control vector: .gguf or .safetensors")
    try:
        tensors = _read_gguf(source) if source.suffix == ".gguf" else _read_safetensors(source)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise ExportError(f"{source} can't be read: {error}.", wanted="a control vector") from error
    by_layer = {}
    for name, vector in tensors.items():
        match = _NAME.fullmatch(name)
        if match is None or vector.dim() != 1:
            raise ExportError(
                f"{source} holds {name!r} of shape {tuple(vector.shape)}.", wanted="vectors named direction.LAYER"
            )
        by_layer[int(match[1])] = vector.float()
    if not by_layer:
        raise ExportError(f"{source} holds no vector.", wanted="vectors named direction.LAYER")
    return tuple(AddVector(by_layer[layer], layer) for layer in sorted(by_layer))


def _directions(vectors: Sequence[AddVector]) -> dict[int, Tensor]:
    by_layer: dict[int, Tensor] = {}
    for vector in vectors:
        if not isinstance(vector.dial, int | float) or vector.when != "all":
            raise ExportError(
                "A vector has a list of dials, or acts on some tokens only.", wanted="one dial, and all tokens"
            )
        added = vector.dial * vector.alpha * vector.vector.detach().double().cpu()
        by_layer[vector.layer] = by_layer[vector.layer] + added if vector.layer in by_layer else added
    if not by_layer:
        raise ExportError("No vector came.", wanted="at least one")
    return {layer: vector.float().contiguous() for layer, vector in sorted(by_layer.items())}


def _gguf(directions: Mapping[int, Tensor], model_hint: str) -> bytes:
    import tempfile

    import gguf

    if 0 in directions:
        raise ExportError(
            "A vector is added after block 0, where llama.cpp adds none.",
            wanted="layers from 1",
            fix="Write safetensors.",
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vector.gguf"
        writer = gguf.GGUFWriter(file, _ARCHITECTURE)
        writer.add_string(f"{_ARCHITECTURE}.model_hint", model_hint)
        writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(directions))
        for layer, vector in directions.items():
            writer.add_tensor(f"direction.{layer}", vector.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return file.read_bytes()


def _read_gguf(file: Path) -> dict[str, Tensor]:
    import gguf

    reader = gguf.GGUFReader(file)
    architecture = str(reader.fields["general.architecture"].contents())
    if architecture != _ARCHITECTURE:
        raise ExportError(f"{file} is of the architecture {architecture}.", wanted=_ARCHITECTURE)
    return {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
