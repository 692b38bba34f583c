"""LoRA adapters for llama.cpp, written with the `gguf` package.

llama.cpp adds `scale * alpha / rank * lora_b @ lora_a` to a weight. With `alpha = strength * rank` its scale 1 is the
default dial, as in the PEFT adapter.

A weight's rows stand in a GGUF file as in the checkpoint, but for the query and key projections of some
families: each head's rows are interleaved there (first half with second half), so a foreign adapter's `lora_b` is too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.circuit.site import Site
from neurodial.errors import ExportError
from neurodial.export.merge import Lora
from neurodial.export.peft_adapter import LowRank, low_rank
from neurodial.export.recipe import Recipe
from neurodial.model.engine_names import ENGINE_NAMES
from neurodial.model.subject import Subject


def architecture_of(subject: Subject) -> str:
    """What llama.cpp calls the model's architecture.

    Raises:
        ExportError: llama.cpp's name of it is not known.
    """
    name = subject.engines.gguf
    if name is None:
        known = sorted({kind for names in ENGINE_NAMES if names.gguf for kind in names.model_types})
        raise ExportError(
            f"What llama.cpp calls {subject.layout.label} models is not known, if it runs them.",
            wanted=f"one of {', '.join(known)}",
            fix="Export --as lora, ia3 or weights.",
        )
    return name


def write_gguf_lora(subject: Subject, recipe: Recipe, file: Path) -> None:
    """Write the circuit as a GGUF adapter: dial-1 matrices of one rank, the dial in `adapter.lora.alpha`.

    Raises:
        ExportError: llama.cpp's name of it is not known.
    """
    tensors = {}
    for site in recipe.sites:
        tensors[gguf_part(subject, site, "down")] = low_rank(subject, recipe, site)
    _write(file, architecture_of(subject), recipe.strength * recipe.rank, tensors)


def write_converted(subject: Subject, lora: Lora, file: Path) -> None:
    """Write somebody's PEFT adapter as a GGUF adapter.

    Raises:
        ExportError: it changes a weight that a GGUF file keeps in another form.
    """
    architecture = architecture_of(subject)
    names = gguf_names(subject, list(lora.tensors))
    tensors = {}
    rank = 0
    for module, name in names.items():
        down, up = lora.tensors[module]
        tensors[name] = LowRank(down.float(), reordered(subject, name, up.float()))
        rank = max(rank, down.shape[0])
    _write(file, architecture, lora.scale * rank, tensors)


def read_gguf_lora(subject: Subject, file: Path) -> dict[Any, LowRank]:
    """The circuit's matrices as llama.cpp applies them at scale 1, read back from the file.

    Raises:
        ExportError: the file is not an adapter for this architecture.
    """
    import gguf

    reader = gguf.GGUFReader(file)
    architecture = reader.fields["general.architecture"].contents()
    if architecture != architecture_of(subject):
        raise ExportError(f"{file} is for {architecture}.", wanted=architecture_of(subject))
    alpha = float(reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    matrices = {}
    for site in subject.dense_sites:
        key = f"{gguf_part(subject, site, 'down')}.weight.lora_"
        if f"{key}a" in tensors:
            down, up = tensors[f"{key}a"], tensors[f"{key}b"]
            matrices[site] = LowRank(down, up * (alpha / down.shape[0]))
    return matrices


def gguf_part(subject: Subject, site: Site, part: str) -> str:
    """What a GGUF file calls a part of an MLP: of a dense one, of routed experts, or of the expert shared beside them.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> gguf_part(tiny_subject("qwen2_moe"), Site(1), "down")
        'blk.1.ffn_down_shexp'
    """
    is_beside = subject.layout.blocks[site.layer].experts is not None
    return f"blk.{site.layer}.ffn_{part}" + ("_exps" if site.routed else "_shexp" if is_beside else "")


def gguf_names(subject: Subject, modules: list[str]) -> dict[str, str]:
    """What a GGUF file calls each module's weight, without its ending.

    Raises:
        ExportError: it has no such weight, or keeps it in another form.
    """
    import gguf

    architecture = architecture_of(subject)
    kind = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    known = gguf.get_tensor_name_map(kind, subject.layers)
    names = {}
    for module in modules:
        name = known.get_name(module)
        if name is None or name.rpartition(".")[2] in subject.engines.gguf_rearranged:
            raise ExportError(
                f"The adapter changes {module!r}, which a GGUF file keeps in another form.",
                wanted="an adapter on attention and MLP projections",
                fix="Merge the adapter into the model, convert that to GGUF, and export from the file.",
            )
        names[module] = name
    return names


def reordered(subject: Subject, name: str, rows: Float[Tensor, "out any"]) -> Float[Tensor, "out any"]:
    """Rows of a weight's change in the order of the GGUF file."""
    part = name.rpartition(".")[2]
    if part not in subject.engines.gguf_interleaved:
        return rows
    config = subject.model.config.get_text_config()
    heads = config.num_attention_heads if part == "attn_q" else config.num_key_value_heads
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
    return halves.transpose(1, 2).reshape(rows.shape)


def _write(file: Path, architecture: str, alpha: float, tensors: Mapping[str, LowRank]) -> None:
    import gguf

    writer = gguf.GGUFWriter(file, architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for name, matrices in tensors.items():
        writer.add_tensor(f"{name}.weight.lora_a", matrices.down.contiguous().numpy())
        writer.add_tensor(f"{name}.weight.lora_b", matrices.up.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
