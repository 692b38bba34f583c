"""One GGUF file with the model's own adapter merged and the circuit baked in, for engines that take no adapters.

1. Each weight that the adapter changes is dequantised and `scale * B @ A` is added.
2. The sum is quantised again: to the weight's own type where the `gguf` package can write that and the type carries
   the change, else to Q8_0, else to F16. A type carries a change when rounding to it is off by less than the change
   is large (Frobenius norms): a four-bit weight plus a small change mostly rounds back to the weight it was, so the
   adapter would be lost in silence.
3. The circuit goes into the row scales of the up projections, as in any baked file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from neurodial.errors import ExportError
from neurodial.export.gguf_adapter import gguf_names, reordered
from neurodial.export.gguf_bake import coarsest, scale_rows, targets
from neurodial.export.merge import Lora, read_lora
from neurodial.export.recipe import Recipe
from neurodial.files import refuse_full
from neurodial.model.subject import Subject

FALL_BACK = ("Q8_0", "F16")
"""What a weight is quantised to where its own type won't do, in this order; F16 takes anything."""


class Merged(NamedTuple):
    """What merging did to the file.

    Attributes:
        precision: the coarsest type that a changed weight has now.
        types: how many weights kept or changed their type: `Q4_1`, or `Q4_1 to Q8_0`.
    """

    precision: str
    types: dict[str, int]


def check_merge(subject: Subject, recipe: Recipe) -> None:
    """Refuse, before any work, what can't be merged and baked.

    Raises:
        ExportError: the model is no GGUF file that can be baked into, or its adapter is no plain LoRA on weights that
            the file keeps as they are.
    """
    targets(subject, recipe)
    if subject.adapter is None:
        return
    import gguf

    held = {tensor.name for tensor in gguf.GGUFReader(str(subject.source)).tensors}
    names = gguf_names(subject, list(read_lora(Path(subject.adapter.path)).tensors))
    missing = [module for module, name in names.items() if f"{name}.weight" not in held]
    if missing:
        raise ExportError(
            f"{subject.source} holds no weight {names[missing[0]] + '.weight'!r}, which the adapter changes "
            f"({missing[0]}).",
            wanted="an adapter on weights that the file has of its own",
            fix="Merge the adapter into the model, convert that to GGUF, and export from the file.",
        )


def merge_gguf(subject: Subject, recipe: Recipe, file: Path) -> Merged:
    """Write the model's GGUF file with its adapter merged, quantised again, and the circuit in it.

    Raises:
        ExportError: it can't be merged or baked into, or a result does not fit its type.
        FileError: there is too little space.
    """
    import gguf

    check_merge(subject, recipe)
    reader = gguf.GGUFReader(str(subject.source))
    refuse_full(file.parent, 4 * Path(str(subject.source)).stat().st_size)  # four bits may become sixteen
    kept: Counter[str] = Counter()
    kinds = {"F32"}
    writer = gguf.GGUFWriter(file, str(reader.fields["general.architecture"].contents()), use_temp_file=True)
    for name, data, before, after in _tensors(subject, reader):
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[after])
        if before:
            kinds.add(after)
            kept[before if before == after else f"{before} to {after}"] += 1
    _copy_fields(reader, writer, file_type=not any(" to " in way for way in kept))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    baked = scale_rows(file, recipe, targets(subject, recipe, file))
    merged = coarsest(kinds)
    precision = "requantised" if merged == "quantised" else coarsest({*kinds, *baked})
    return Merged(precision, dict(sorted(kept.items())))


def _tensors(subject: Subject, reader: Any) -> Iterator[tuple[str, npt.NDArray[Any], str, str]]:
    """Every weight of the new file: name, content, its type before where the adapter changed it (else ""), its type."""
    import gguf

    lora, names = None, {}
    if subject.adapter is not None:
        lora = read_lora(Path(subject.adapter.path))
        names = {f"{name}.weight": module for module, name in gguf_names(subject, list(lora.tensors)).items()}
    for tensor in reader.tensors:
        kind = tensor.tensor_type.name
        if lora is None or tensor.name not in names:
            yield tensor.name, tensor.data, "", kind
            continue
        weight = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
        change = _change(subject, lora, names[tensor.name], tensor.name)
        after, data = _quantised(weight + change, float(np.linalg.norm(change)), kind)
        yield tensor.name, data, kind, after


def _change(subject: Subject, lora: Lora, module: str, name: str) -> npt.NDArray[np.float64]:
    change = lora.change(module)
    rows = change.T if lora.transposed else change
    return np.asarray(reordered(subject, name.removesuffix(".weight"), rows).numpy())


def _quantised(weight: npt.NDArray[np.float64], change: float, own: str) -> tuple[str, npt.NDArray[Any]]:
    """The weight in the first type that carries a change of that size, and the type."""
    import gguf

    content = weight.astype(np.float32)
    for kind in dict.fromkeys((own, *FALL_BACK)):
        quantisation = gguf.GGMLQuantizationType[kind]
        try:
            data = gguf.quantize(content, quantisation)
        except (NotImplementedError, gguf.QuantError):
            continue  # a type that the package only reads, or rows that are no whole number of its blocks
        error = float(np.linalg.norm(gguf.dequantize(data, quantisation).astype(np.float64) - weight))
        if kind == FALL_BACK[-1] or error < change or own in {"F32", "F16", "BF16"}:
            return kind, data
    raise AssertionError("F16 takes every weight")  # pragma: no cover


def _copy_fields(reader: Any, writer: Any, *, file_type: bool) -> None:
    """The file's settings; the label of its type goes where the types are mixed now, and engines work it out."""
    import gguf

    left = {"general.architecture"} if file_type else {"general.architecture", "general.file_type"}
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in left:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
