"""Models of random weights in the shapes of well-known ones, made where they run: no download."""

from __future__ import annotations

from typing import Any

import torch

from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_tokenizer

SHAPES: dict[str, dict[str, Any]] = {
    # Llama 3.2 1B
    "llama-1b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    # Llama 3.1 8B
    "llama-8b": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    # Gemma 2 9B
    "gemma2-9b": {
        "model_type": "gemma2",
        "vocab_size": 256000,
        "hidden_size": 3584,
        "intermediate_size": 14336,
        "num_hidden_layers": 42,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 256,
    },
    # Qwen2.5 32B
    "qwen2-32b": {
        "model_type": "qwen2",
        "vocab_size": 152064,
        "hidden_size": 5120,
        "intermediate_size": 27648,
        "num_hidden_layers": 64,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
    },
}
"""Configurations, by the name that the benchmarks take."""


def random_subject(shape: str, *, dtype: torch.dtype = torch.bfloat16, device: str = "cuda", seed: int = 0) -> Subject:
    """A model of random weights of a shape, with a tokenizer whose tokens are bytes."""
    from transformers import AutoConfig, AutoModelForCausalLM

    ids = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
    config = AutoConfig.for_model(**SHAPES[shape], **ids)
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return Subject.of(model.eval(), tiny_tokenizer(), label=f"random {shape}")
