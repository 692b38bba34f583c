"""Which engines can take a circuit, and what each has to be told. Torch-free."""

from __future__ import annotations

from typing import Literal, NamedTuple

Route = Literal["lora", "ia3", "weights", "vllm", "gguf-lora", "gguf", "gguf-merged"]
ROUTES: tuple[Route, ...] = ("lora", "ia3", "weights", "vllm", "gguf-lora", "gguf", "gguf-merged")

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM's `max_lora_rank` takes."""

_VLLM_WITHOUT_LORA = {"gpt2", "gpt_neox"}
_VLLM_MODULES = {"opt": "fc2"}  # what vLLM calls the down projection, where it is not down_proj
GGUF_ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "olmo2": "olmo2",
    "phi3": "phi3",
    "gpt2": "gpt2",
    "gpt_neox": "gptneox",
}
"""What llama.cpp calls our families; OPT it does not run."""


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


def vllm_options(family: str, rank: int) -> str | None:
    """What vLLM has to be started with to take a circuit of that rank; None where none will do.

    Example:
        >>> vllm_options("llama", 38)
        '--enable-lora --max-lora-rank 64 --lora-target-modules down_proj'
    """
    step = vllm_rank(rank)
    if step is None or family in _VLLM_WITHOUT_LORA:
        return None
    module = _VLLM_MODULES.get(family, "down_proj")
    return f"--enable-lora --max-lora-rank {step} --lora-target-modules {module}"


def engine_notes(route: Route, *, family: str, rank: int, adapter: bool = False) -> list[EngineNote]:
    """What to say about each engine after an export; `adapter`: whether the model carries one of its own."""
    if route in {"lora", "vllm"}:
        return [
            EngineNote("PEFT, transformers", True, "any strength at run time; lm-evaluation-harness: peft=DIR"),
            _vllm(family, rank),
            EngineNote("llama.cpp", False, "convert with --as gguf-lora instead"),
        ]
    if route == "ia3":
        return [
            EngineNote("PEFT", True, "fixed at its dial"),
            EngineNote("vLLM, llama.cpp", False, "they take no IA3: use --as lora, vllm or gguf-lora"),
        ]
    if route == "weights":
        return [
            EngineNote("transformers, vLLM, any engine that takes the base model", True, "fixed at its dial, no cost"),
            EngineNote("llama.cpp", False, "convert the folder, or bake a GGUF (--as gguf)"),
        ]
    if route == "gguf-lora":
        return [
            EngineNote(
                "llama.cpp, LM Studio",
                True,
                "--lora-scaled FILE:STRENGTH --cache-ram 0; a scale in every request",
            ),
            EngineNote("Ollama", False, "its newer engine takes no adapters: bake a GGUF (--as gguf)"),
        ]
    if route == "gguf" and adapter:
        return [
            EngineNote("llama.cpp", True, "with the model's own adapter beside it: --lora first-adapter.gguf"),
            EngineNote("Ollama, LM Studio", False, "they take one file: use --as gguf-merged"),
            EngineNote("vLLM", False, "use --as vllm or weights"),
        ]
    return [
        EngineNote("llama.cpp, Ollama, LM Studio", True, "an ordinary GGUF file, fixed at its dial"),
        EngineNote("vLLM", False, "use --as vllm or weights"),
    ]


def _vllm(family: str, rank: int) -> EngineNote:
    if family in _VLLM_WITHOUT_LORA:
        return EngineNote("vLLM", False, f"it runs no LoRA on {family}: use --as weights")
    options = vllm_options(family, rank)
    if options is None:
        return EngineNote("vLLM", False, f"rank {rank} is above {VLLM_RANKS[-1]}, its largest: use --as weights")
    return EngineNote("vLLM", True, options)
