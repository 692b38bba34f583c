"""Tensors where they lie in a file, read a few rows at a time, with what rounding to their type may have moved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from neurodial.export.gguf_bake import SCALES
from neurodial.export.tensors import DTYPES, Place

_BITS = {"F64": 53, "F32": 24, "F16": 11, "BF16": 8}
"""Binary digits of a number of each type, the leading one counted."""
_SMALLEST = {"F64": 2.0**-1074, "F32": 2.0**-149, "F16": 2.0**-24, "BF16": 2.0**-133}
_BLOCKS = {
    "Q8_0": (0.5, 127, (0,)),
    "Q4_0": (1.0, 8, (0,)),
    "Q5_0": (1.0, 16, (0,)),
    "Q4_1": (0.5, 15, (0, 2)),
    "Q5_1": (0.5, 31, (0, 2)),
}
"""Types whose quantisation is plain rounding: how many steps a number may be off (a whole one where the largest is cut
off), the largest integer, and where scale and offset stand in a block."""
_SLACK = 1 + 2.0**-10
"""For two roundings in a row, as from float64 by way of float32: the second adds less than this."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, as rows of columns; a vector is rows of one column.

    Attributes:
        name: as the file names it.
        kind: its type, such as BF16 or Q8_0.
        shape: rows and columns.
        file: where it lies.
        start: its first byte there.
        row_size: bytes of a row.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    file: Path
    start: int
    row_size: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.shape[0] * self.row_size

    @property
    def is_plain(self) -> bool:
        """Whether it is stored number by number, in a floating-point type."""
        return self.kind in DTYPES

    @property
    def is_readable(self) -> bool:
        """Whether its numbers can be read; others are compared byte by byte."""
        return self.is_plain or self.kind in _BLOCKS or self.kind in SCALES

    @property
    def is_bounded(self) -> bool:
        """Whether it is known how far a number of this type may lie from the one that was rounded to it."""
        return self.is_plain or self.kind in _BLOCKS

    def content(self, start: int, stop: int) -> bytes:
        """The bytes of some rows."""
        with self.file.open("rb") as stream:
            stream.seek(self.start + start * self.row_size)
            return stream.read((stop - start) * self.row_size)

    def numbers(self, content: bytes) -> Float64[Tensor, "row column"]:
        """The numbers of some rows, from their bytes."""
        return self.quick_numbers(content).double()

    def quick_numbers(self, content: bytes) -> Float[Tensor, "row column"]:
        """The same in float32 where that holds them."""
        if self.is_plain:
            flat = torch.frombuffer(bytearray(content), dtype=DTYPES[self.kind])
            flat = flat if self.kind in {"F32", "F64"} else flat.float()
        else:
            import gguf

            blocks = np.frombuffer(content, np.uint8).reshape(-1, self.row_size)
            values = gguf.dequantize(blocks, gguf.GGMLQuantizationType[self.kind])
            flat = torch.from_numpy(np.asarray(values, np.float32))
        return flat.reshape(-1, self.shape[1])

    def rounding(self, content: bytes, numbers: Float64[Tensor, "row column"]) -> Float64[Tensor, "row column"]:
        """How far each number may lie from the one that was rounded to it.

        Half the spacing of a floating-point type at the number; for blocks of integers half a step of the block, or
        a whole one where the type cuts its largest off, and the rounding of the block's scales to fp16.
        """
        if self.is_plain:
            return half_spacing(numbers, self.kind) * _SLACK
        share, levels, offsets = _BLOCKS[self.kind]
        raw = np.frombuffer(content, np.uint8).reshape(-1, self.block_size)
        scales = [_halves(raw, offset) for offset in offsets]
        step, scale_error = scales[0].abs(), half_spacing(scales[0], "F16")
        error = share * (step + scale_error) + levels * scale_error
        if len(scales) > 1:
            error = error + half_spacing(scales[1], "F16")
        per_block = numbers.shape[0] * numbers.shape[1] // error.shape[0]
        return (error * _SLACK).repeat_interleave(per_block).reshape(numbers.shape)

    @property
    def block_size(self) -> int:
        """Bytes of a block of a quantised type."""
        import gguf

        return int(gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[self.kind]][1])

    def scales(self, content: bytes) -> tuple[Float64[Tensor, "row scale"], np.ndarray]:
        """The fp16 scales of a quantised row's blocks, and everything else of the rows."""
        rows = len(content) // self.row_size
        raw = np.frombuffer(content, np.uint8).reshape(-1, self.block_size).copy()
        columns = [_halves(raw, offset) for offset in SCALES[self.kind]]
        for offset in SCALES[self.kind]:
            raw[:, offset : offset + 2] = 0
        return torch.stack(columns, dim=1).reshape(rows, -1), raw.reshape(rows, -1)


def half_spacing(numbers: Float64[Tensor, "*shape"], kind: str) -> Float64[Tensor, "*shape"]:
    """Half the distance from a number to the next larger one of a floating-point type: the most that rounding moves.

    Example:
        >>> half_spacing(torch.tensor([1.0, 3.0], dtype=torch.float64), "BF16").tolist()
        [0.00390625, 0.0078125]
    """
    exponent = (numbers.view(torch.int64) & 0x7FF0_0000_0000_0000).view(torch.float64)
    return torch.clamp(exponent * 2.0 ** -_BITS[kind], min=_SMALLEST[kind] / 2 or _SMALLEST[kind])


def stored(place: Place, name: str) -> StoredTensor:
    """A tensor of a safetensors file."""
    rows, columns = rows_and_columns(place.shape)
    return StoredTensor(name, place.dtype, (rows, columns), place.file, place.start, place.size // max(rows, 1))


def rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    """A shape as rows of the last axis; a vector as rows of one number.

    Example:
        >>> rows_and_columns((2, 3, 4)), rows_and_columns((5,)), rows_and_columns(())
        ((6, 4), (5, 1), (1, 1))
    """
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (math.prod(shape), 1)


def _halves(raw: np.ndarray, offset: int) -> Float64[Tensor, "block"]:
    columns = np.ascontiguousarray(raw[:, offset : offset + 2]).view(np.float16).reshape(-1)
    return torch.from_numpy(columns.astype(np.float64))
