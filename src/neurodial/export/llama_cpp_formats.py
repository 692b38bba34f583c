"""The formats that llama.cpp, Ollama and LM Studio load: GGUF adapters and files. Torch-free until one is written."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from neurodial.export.engines import EngineNote
from neurodial.export.export_format import ExportFormat, WrittenFiles, console_block
from neurodial.model.engine_names import EngineNames

if TYPE_CHECKING:
    from neurodial.export.loaded import Loaded
    from neurodial.export.manifest import Manifest
    from neurodial.export.recipe import Recipe
    from neurodial.model.subject import Subject


def _write_gguf_lora(subject: Subject, recipe: Recipe, folder: Path) -> WrittenFiles:
    from neurodial.export.gguf_adapter import write_converted, write_gguf_lora
    from neurodial.export.merge import read_lora
    from neurodial.export.own_adapter import adapter_info

    write_gguf_lora(subject, recipe, folder / "adapter.gguf")
    if subject.adapter is None:
        return WrittenFiles("float32")
    write_converted(subject, read_lora(Path(subject.adapter.path)), folder / "first-adapter.gguf")
    return WrittenFiles("float32", adapter_info(subject, "second adapter", "first-adapter.gguf"))


def _load_gguf_lora(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    from neurodial.export.gguf_adapter import read_gguf_lora
    from neurodial.export.loaded import through_matrices

    del manifest
    matrices = read_gguf_lora(subject, folder / "adapter.gguf")
    return through_matrices(subject, matrices, "the file's matrices, read back")


def _write_gguf(subject: Subject, recipe: Recipe, folder: Path) -> WrittenFiles:
    from neurodial.export.gguf_adapter import write_converted
    from neurodial.export.gguf_bake import bake_gguf
    from neurodial.export.merge import read_lora, scaled_rows, write_peft
    from neurodial.export.own_adapter import adapter_info

    precision = bake_gguf(subject, recipe, folder / "model.gguf")
    if subject.adapter is None:
        return WrittenFiles(precision)
    lora = scaled_rows(subject, recipe, read_lora(Path(subject.adapter.path)))
    write_converted(subject, lora, folder / "first-adapter.gguf")
    (folder / "first-adapter").mkdir()
    write_peft(lora, Path(subject.adapter.path), folder / "first-adapter")
    return WrittenFiles(precision, adapter_info(subject, "second adapter", "first-adapter.gguf"))


def _load_gguf(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    from neurodial.export.loaded import through_transformers

    beside = None if manifest.adapter is None or manifest.adapter.file is None else folder / "first-adapter"
    return through_transformers(subject, folder / "model.gguf", adapter=beside)


def _write_gguf_merged(subject: Subject, recipe: Recipe, folder: Path) -> WrittenFiles:
    from neurodial.export.gguf_merge import merge_gguf
    from neurodial.export.own_adapter import adapter_info

    merged = merge_gguf(subject, recipe, folder / "model.gguf")
    info = adapter_info(subject, "merged and re-quantised")
    return WrittenFiles(merged.precision, info and info.model_copy(update={"types": merged.types}))


def _check_gguf_lora(subject: Subject, recipe: Recipe) -> None:
    from neurodial.export.gguf_adapter import architecture_of

    del recipe
    architecture_of(subject)


def _check_gguf(subject: Subject, recipe: Recipe) -> None:
    from neurodial.export.gguf_bake import check_gguf

    check_gguf(subject, recipe)


def _check_gguf_merged(subject: Subject, recipe: Recipe) -> None:
    from neurodial.export.gguf_merge import check_merge

    check_merge(subject, recipe)


def _gguf_lora_engines(names: EngineNames, rank: int, has_adapter: bool) -> list[EngineNote]:  # noqa: FBT001
    del names, rank, has_adapter
    return [
        EngineNote("llama.cpp, LM Studio", True, "--lora-scaled FILE:STRENGTH --cache-ram 0; a scale in every request"),
        EngineNote("Ollama", False, "its newer engine takes no adapters: bake a GGUF (--as gguf)"),
    ]


def _gguf_engines(names: EngineNames, rank: int, has_adapter: bool) -> list[EngineNote]:  # noqa: FBT001
    if not has_adapter:
        return _gguf_merged_engines(names, rank, has_adapter)
    return [
        EngineNote("llama.cpp", True, "with the model's own adapter beside it: --lora first-adapter.gguf"),
        EngineNote("Ollama, LM Studio", False, "they take one file: use --as gguf-merged"),
        EngineNote("vLLM", False, "use --as vllm or weights"),
    ]


def _gguf_merged_engines(names: EngineNames, rank: int, has_adapter: bool) -> list[EngineNote]:  # noqa: FBT001
    del names, rank, has_adapter
    return [
        EngineNote("llama.cpp, Ollama, LM Studio", True, "an ordinary GGUF file, fixed at its dial"),
        EngineNote("vLLM", False, "use --as vllm or weights"),
    ]


def _gguf_lora_usage(manifest: Manifest) -> str:
    del manifest
    return console_block("llama-server -m BASE.gguf --lora-scaled adapter.gguf:1 --cache-ram 0")


def _gguf_usage(manifest: Manifest) -> str:
    del manifest
    return console_block("llama-server -m model.gguf")


LLAMA_CPP_FORMATS: tuple[ExportFormat, ...] = (
    ExportFormat(
        name="gguf-lora",
        title="GGUF adapter",
        content="A LoRA adapter for llama.cpp on the down projections",
        loaded_by="llama.cpp, LM Studio",
        is_dialled=True,
        hub_library="gguf",
        relation="adapter",
        write=_write_gguf_lora,
        load=_load_gguf_lora,
        engines=_gguf_lora_engines,
        usage=_gguf_lora_usage,
        check=_check_gguf_lora,
    ),
    ExportFormat(
        name="gguf",
        title="Baked GGUF",
        content="A GGUF file with the circuit in its weights",
        loaded_by="llama.cpp, Ollama, LM Studio",
        is_dialled=False,
        hub_library="gguf",
        relation="quantized",
        write=_write_gguf,
        load=_load_gguf,
        engines=_gguf_engines,
        usage=_gguf_usage,
        check=_check_gguf,
        takes_experts=True,
        detail="A copy of the model's own GGUF file; an adapter that the model carries lies beside it.",
    ),
    ExportFormat(
        name="gguf-merged",
        title="Merged GGUF",
        content="A GGUF file with adapter and circuit in its weights",
        loaded_by="llama.cpp, Ollama, LM Studio",
        is_dialled=False,
        hub_library="gguf",
        relation="quantized",
        write=_write_gguf_merged,
        load=_load_gguf,
        engines=_gguf_merged_engines,
        usage=_gguf_usage,
        check=_check_gguf_merged,
        takes_experts=True,
        detail="The same with the model's own adapter merged and quantised again: one file.",
    ),
)
