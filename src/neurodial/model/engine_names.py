"""What other engines call the parts of a model: one record for each architecture that they name in their own way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineNames:
    """What llama.cpp and vLLM call a model's parts.

    Attributes:
        model_types: `model_type` of the text configurations that it is about.
        gguf: llama.cpp's name of the architecture, None where it is not known here.
        gguf_interleaved: weights of a GGUF file in which each head's rows are interleaved, first half with second half.
        gguf_rearranged: weights that llama.cpp's converter rearranges in ways that an adapter can't follow.
        vllm_module: vLLM's name of the down projection, None where vLLM runs no LoRA on it, or nobody tried.
    """

    model_types: tuple[str, ...]
    gguf: str | None = None
    gguf_interleaved: tuple[str, ...] = ()
    gguf_rearranged: tuple[str, ...] = ()
    vllm_module: str | None = "down_proj"


_HEADS = ("attn_q", "attn_k")

ENGINE_NAMES: tuple[EngineNames, ...] = (
    EngineNames(("llama",), "llama", _HEADS),
    EngineNames(("smollm3",), "smollm3", _HEADS),
    EngineNames(("mistral",), "llama", _HEADS),
    EngineNames(("qwen2", "qwen2_vl_text", "qwen2_5_vl_text"), "qwen2"),
    EngineNames(("qwen3", "qwen3_vl_text"), "qwen3"),
    EngineNames(("gemma",), "gemma"),
    EngineNames(("gemma2",), "gemma2"),
    EngineNames(("gemma3", "gemma3_text"), "gemma3"),
    EngineNames(("olmo2",), "olmo2"),
    EngineNames(("phi3",), "phi3"),
    EngineNames(("gpt2",), "gpt2", vllm_module=None),
    EngineNames(("gpt_neox",), "gptneox", gguf_rearranged=("attn_qkv",), vllm_module=None),
    EngineNames(("opt",), vllm_module="fc2"),
    EngineNames(("qwen2_moe",), "qwen2moe", vllm_module=None),
    EngineNames(("qwen3_moe",), "qwen3moe", vllm_module=None),
)

_BY_TYPE = {model_type: names for names in ENGINE_NAMES for model_type in names.model_types}


def engine_names(model_type: str) -> EngineNames:
    """The record of a model type; one that knows no engine where there is none.

    Example:
        >>> engine_names("gpt_neox").gguf, engine_names("granite").gguf
        ('gptneox', None)
    """
    return _BY_TYPE.get(model_type) or EngineNames((model_type,), vllm_module=None)
