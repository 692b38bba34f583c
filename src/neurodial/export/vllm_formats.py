"""The format that vLLM takes by our plugin alone, without LoRA. Torch-free until one is written."""

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


def _write(subject: Subject, recipe: Recipe, folder: Path) -> WrittenFiles:
    from neurodial.export.bank_file import write_doses
    from neurodial.export.own_adapter import merged_base

    _, info = merged_base(subject, folder)
    write_doses(subject, recipe, folder)
    return WrittenFiles("float32", info)


def _load(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    from neurodial.export.bank_file import through_doses

    return through_doses(subject, manifest.strength, folder)


def _check(subject: Subject, recipe: Recipe) -> None:
    from neurodial.export.own_adapter import refuse_unmerged

    del recipe
    refuse_unmerged(subject, "A bank in vLLM")


def _engines(names: EngineNames, rank: int, has_adapter: bool) -> list[EngineNote]:  # noqa: FBT001  # a record's
    del names, rank, has_adapter
    return [
        EngineNote("vLLM", True, "with neurodial installed beside it, without LoRA; several circuits in a request"),
        EngineNote("PEFT, llama.cpp", False, "use --as lora or gguf-lora"),
    ]


def _usage(manifest: Manifest) -> str:
    beside = None if manifest.adapter is None else manifest.adapter.file
    return console_block(
        f"NEURODIAL_VLLM=FOLDER vllm serve {f'FOLDER/{beside}' if beside else 'BASE'}\n"
        "# with neurodial installed beside vLLM (pip install --no-deps neurodial) a request names circuits and dials:\n"
        f'# "vllm_xargs": {{"neurodial": "{manifest.name}@0.5"}}'
    )


VLLM_FORMATS: tuple[ExportFormat, ...] = (
    ExportFormat(
        name="vllm-bank",
        title="vLLM without LoRA",
        content="Doses that our plugin for vLLM multiplies neurons by",
        loaded_by="vLLM, by our plugin alone",
        is_dialled=True,
        hub_library="vllm",
        relation="adapter",
        write=_write,
        load=_load,
        engines=_engines,
        usage=_usage,
        check=_check,
        detail="Any number of neurons, families without LoRA, routed experts, several circuits in a request.",
        takes_experts=True,
    ),
)
