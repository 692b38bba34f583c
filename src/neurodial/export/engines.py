"""Which engines can take a circuit, and what vLLM has to be told. Torch-free."""

from __future__ import annotations

from typing import NamedTuple

from neurodial.model.engine_names import EngineNames

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM's `max_lora_rank` takes."""


class EngineNote(NamedTuple):
    """Whether an engine can take the files, and how."""

    engine: str
    can: bool
    how: str


def vllm_rank(rank: int) -> int | None:
    """The `max_lora_rank` that holds a rank, or None where it is too large for vLLM.

    Example:
        >>> vllm_rank(9), vllm_rank(513)
        (16, None)
    """
    return next((step for step in VLLM_RANKS if step >= rank), None)


def vllm_note(names: EngineNames, rank: int) -> EngineNote:
    """Whether vLLM takes a circuit of that rank as an adapter, and what it has to be started with.

    Example:
        >>> from neurodial.model.engine_names import engine_names
        >>> vllm_note(engine_names("llama"), 38).how
        '--enable-lora --max-lora-rank 64 --lora-target-modules down_proj'
    """
    if names.vllm_module is None:
        kind = names.model_types[0]
        return EngineNote("vLLM", False, f"it runs no LoRA on {kind}, or none was tried: use --as weights")
    step = vllm_rank(rank)
    if step is None:
        return EngineNote("vLLM", False, f"rank {rank} is above {VLLM_RANKS[-1]}, its largest: use --as weights")
    return EngineNote("vLLM", True, f"--enable-lora --max-lora-rank {step} --lora-target-modules {names.vllm_module}")
