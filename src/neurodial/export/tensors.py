"""Changing tensors inside a safetensors file, one at a time, every other byte as it was.

A safetensors file is eight bytes (the header's length, little endian), the header (JSON: for each tensor its dtype,
shape and place) and the tensors. A change that keeps dtype and shape is a write to the tensor's place, so memory
holds one tensor however large the model is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from neurodial.errors import ExportError

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MAX_HEADER = 100_000_000


class Place(NamedTuple):
    """Where a tensor lies.

    Attributes:
        file: the safetensors file.
        dtype: as the header names it.
        shape: of the tensor.
        start: first byte, counted from the beginning of the file.
        size: number of bytes.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def places_in(file: Path) -> dict[str, Place]:
    """Every tensor of a safetensors file, from its header alone.

    Raises:
        ExportError: it is not a safetensors file, or is cut off.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= _MAX_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        places = {
            name: Place(
                file, row["dtype"], tuple(row["shape"]), 8 + length + row["data_offsets"][0],
                row["data_offsets"][1] - row["data_offsets"][0],
            )
            for name, row in header.items()
            if name != "__metadata__"
        }  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{file} is not a safetensors file: {error}.", fix="Was its download cut off?") from error
    end = max((place.start + place.size for place in places.values()), default=0)
    if end > file.stat().st_size:
        raise ExportError(f"{file} is cut off.", wanted=f"{end} bytes", fix="Download it again.")
    return places


def read_tensor(place: Place) -> Tensor:
    """One tensor, in its stored dtype.

    Raises:
        ExportError: the dtype is not an ordinary floating-point one.
    """
    if place.dtype not in DTYPES:
        raise ExportError(
            f"A weight in {place.file.name} has dtype {place.dtype}: its columns can't be scaled in place.",
            wanted=" or ".join(DTYPES),
            fix="Export an adapter (--as lora), or use a checkpoint that is not quantised.",
        )
    with place.file.open("rb") as stream:
        stream.seek(place.start)
        content = bytearray(stream.read(place.size))
    return torch.frombuffer(content, dtype=DTYPES[place.dtype]).reshape(place.shape)


def change_tensor(place: Place, change: Callable[[Tensor], Tensor]) -> None:
    """Replace a tensor by `change` of it: computed in float64, rounded once to the stored dtype.

    Raises:
        ExportError: the result does not fit the dtype.
    """
    before = read_tensor(place)
    after = change(before.double()).to(before.dtype).contiguous()
    if not bool(torch.isfinite(after).all()):
        raise ExportError(
            f"The changed weight does not fit {place.dtype}.", wanted="finite numbers", fix="Choose a dial nearer to 0."
        )
    with place.file.open("r+b") as stream:
        stream.seek(place.start)
        stream.write(after.view(torch.uint8).numpy().tobytes())


def place_of(places: Mapping[str, Place], name: str, core: str) -> Place:
    """The tensor of a module in a checkpoint, whose names may carry another prefix than the live model's.

    Args:
        places: the checkpoint's tensors.
        name: the tensor's name in the live model.
        core: the last part of it that a checkpoint must have too.

    Raises:
        ExportError: no tensor, or several, have that name.
    """
    if name in places:
        return places[name]
    parts = name.split(".")
    for start in range(len(parts)):
        suffix = ".".join(parts[start:])
        if not suffix.endswith(core):
            break
        matching = [known for known in places if known == suffix or known.endswith(f".{suffix}")]
        if len(matching) == 1:
            return places[matching[0]]
        if matching:
            break
    raise ExportError(
        f"The checkpoint has no single tensor for {name!r}.",
        wanted=f"one whose name ends in {core!r}",
        fix="Save the model with save_pretrained and export from that folder.",
    )
