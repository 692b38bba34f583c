"""The formats that PEFT, transformers and vLLM load: adapters, and the whole model. Torch-free until one is written."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from neurodial.errors import ExportError
from neurodial.export.engines import EngineNote, vllm_note
from neurodial.export.export_format import ExportFormat, WrittenFiles, console_block, python_block
from neurodial.model.engine_names import EngineNames

if TYPE_CHECKING:
    from neurodial.export.loaded import Loaded
    from neurodial.export.manifest import Manifest
    from neurodial.export.recipe import Recipe
    from neurodial.model.subject import Subject


def _write_lora(subject: Subject, recipe: Recipe, folder: Path) -> WrittenFiles:
    from neurodial.export.own_adapter import base_of, copied_beside
    from neurodial.export.peft_adapter import write_lora

    write_lora(subject, recipe, folder, base=base_of(subject))
    return WrittenFiles("float32", copied_beside(subject, folder))


def _load_lora(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    from neurodial.export.loaded import through_matrices
    from neurodial.export.peft_adapter import read_low_rank

    if subject.adapter is not None and not subject.adapter.merged:
        matrices = read_low_rank(subject, folder)
        return through_matrices(subject, matrices, "the file's matrices beside the unmerged adapter")
    return _load_peft(subject, manifest, folder)


def _write_ia3(subject: Subject, recipe: Recipe, folder: Path) -> WrittenFiles:
    from neurodial.export.own_adapter import merged_base
    from neurodial.export.peft_adapter import write_ia3

    base, info = merged_base(subject, folder)
    write_ia3(subject, recipe, folder, base=base)
    return WrittenFiles("float32", info)


def _write_vllm(subject: Subject, recipe: Recipe, folder: Path) -> WrittenFiles:
    from neurodial.export.own_adapter import merged_base
    from neurodial.export.peft_adapter import write_lora

    base, info = merged_base(subject, folder)
    write_lora(subject, recipe, folder, base=base)
    return WrittenFiles("float32", info)


def _load_peft(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    from neurodial.export.loaded import through_peft

    del manifest
    return through_peft(subject, folder)


def _check_lora(subject: Subject, recipe: Recipe) -> None:
    from neurodial.export.own_adapter import refuse_unmerged

    if recipe.routed:
        refuse_unmerged(subject, "A LoRA on routed experts")
    flat = next((layer for layer in recipe.routed if subject.experts(layer).is_flat), None)
    if flat is not None:
        raise ExportError(
            f"{subject.label} keeps the experts of layer {flat} one below the other in a weight of two axes, which "
            "PEFT takes for one map.",
            fix="Scale them in the model's weights (--as weights).",
        )


def _check_ia3(subject: Subject, recipe: Recipe) -> None:
    from neurodial.export.own_adapter import refuse_unmerged

    del recipe
    refuse_unmerged(subject, "IA3")


def _check_vllm(subject: Subject, recipe: Recipe) -> None:
    from neurodial.export.own_adapter import refuse_unmerged

    refuse_unmerged(subject, "vLLM takes one LoRA for a request: a circuit's")
    note = vllm_note(subject.engines, recipe.rank)
    if not note.can:
        raise ExportError(f"vLLM can't take this circuit as an adapter: {note.how}.")


def _lora_engines(names: EngineNames, rank: int, has_adapter: bool) -> list[EngineNote]:  # noqa: FBT001  # a record's
    del has_adapter
    return [
        EngineNote("PEFT, transformers", True, "any strength at run time; lm-evaluation-harness: peft=DIR"),
        vllm_note(names, rank),
        EngineNote("llama.cpp", False, "convert with --as gguf-lora instead"),
    ]


def _ia3_engines(names: EngineNames, rank: int, has_adapter: bool) -> list[EngineNote]:  # noqa: FBT001
    del names, rank, has_adapter
    return [
        EngineNote("PEFT", True, "fixed at its dial"),
        EngineNote("vLLM, llama.cpp", False, "they take no IA3: use --as lora, vllm or gguf-lora"),
    ]


def _peft_usage(manifest: Manifest) -> str:
    del manifest
    return python_block("model = PeftModel.from_pretrained(base, FOLDER)")


def _vllm_usage(manifest: Manifest) -> str:
    beside = None if manifest.adapter is None else manifest.adapter.file
    options = next(str(note["how"]) for note in manifest.engines if note["engine"] == "vLLM")
    return console_block(
        "NEURODIAL_VLLM=FOLDER VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 \\\n"
        f"  vllm serve {f'FOLDER/{beside}' if beside else 'BASE'} {options}\n"
        "# with neurodial installed beside vLLM (pip install --no-deps neurodial) a request names the dial:\n"
        f'# "model": "{manifest.name}@0.5"'
    )


def _write_weights(subject: Subject, recipe: Recipe, folder: Path) -> WrittenFiles:
    from neurodial.export.equivalence import coarser
    from neurodial.export.own_adapter import adapter_info
    from neurodial.export.tensors import DTYPES
    from neurodial.export.weights import write_weights

    stored = write_weights(subject, recipe, folder)
    names = [str(DTYPES[name]).removeprefix("torch.") for name in stored]
    return WrittenFiles(coarser(*names), adapter_info(subject, "merged"))


def _load_weights(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    from neurodial.export.loaded import through_transformers

    del manifest
    return through_transformers(subject, folder)


def _weights_engines(names: EngineNames, rank: int, has_adapter: bool) -> list[EngineNote]:  # noqa: FBT001
    del names, rank, has_adapter
    return [
        EngineNote("transformers, vLLM, any engine that takes the base model", True, "fixed at its dial, no cost"),
        EngineNote("llama.cpp", False, "convert the folder, or bake a GGUF (--as gguf)"),
    ]


def _weights_usage(manifest: Manifest) -> str:
    del manifest
    return python_block("model = AutoModelForCausalLM.from_pretrained(FOLDER)")


TRANSFORMERS_FORMATS: tuple[ExportFormat, ...] = (
    ExportFormat(
        name="lora",
        title="LoRA adapter",
        content="A LoRA adapter on the down projections",
        loaded_by="PEFT, transformers, vLLM",
        is_dialled=True,
        hub_library="peft",
        relation="adapter",
        write=_write_lora,
        load=_load_lora,
        engines=_lora_engines,
        usage=_peft_usage,
        check=_check_lora,
        takes_experts=True,
    ),
    ExportFormat(
        name="vllm",
        title="vLLM bundle",
        content="A LoRA adapter for vLLM on the down projections",
        loaded_by="vLLM",
        is_dialled=True,
        hub_library="peft",
        relation="adapter",
        write=_write_vllm,
        load=_load_peft,
        engines=_lora_engines,
        usage=_vllm_usage,
        check=_check_vllm,
        detail="A LoRA and what the vLLM plugin needs for a strength with each request.",
    ),
    ExportFormat(
        name="ia3",
        title="IA³ adapter",
        content="An IA3 adapter on the inputs of the down projections",
        loaded_by="PEFT",
        is_dialled=False,
        hub_library="peft",
        relation="adapter",
        write=_write_ia3,
        load=_load_peft,
        engines=_ia3_engines,
        usage=_peft_usage,
        check=_check_ia3,
        detail="The multipliers themselves.",
    ),
    ExportFormat(
        name="weights",
        title="Whole model",
        content="The whole model with the circuit in its weights",
        loaded_by="Any engine that takes the base model",
        is_dialled=False,
        hub_library="transformers",
        relation="finetune",
        write=_write_weights,
        load=_load_weights,
        engines=_weights_engines,
        usage=_weights_usage,
        detail="No cost at run time.",
        takes_experts=True,
    ),
)
