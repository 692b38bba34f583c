"""Tiny multimodal models: a vision tower beside a text model of a known family."""

from __future__ import annotations

from typing import Any

import torch

from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_tokenizer

_TEXT: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": 258,
}
_VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
_ROTARY = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}}

WRAPPERS: dict[str, tuple[str, str]] = {
    "gemma3": ("Gemma3ForConditionalGeneration", "gemma3"),
    "llava": ("LlavaForConditionalGeneration", "llama"),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", "qwen2"),
    "qwen3_vl": ("Qwen3VLForConditionalGeneration", "qwen3"),
    "mistral3": ("Mistral3ForConditionalGeneration", "mistral"),
}
"""Class of each wrapper, and the family of its text model."""


def _settings(name: str) -> dict[str, Any]:
    if name == "gemma3":
        text = {**_TEXT, "query_pre_attn_scalar": 8, "sliding_window": 12}
        return {"text_config": text, "vision_config": _VISION, "image_token_index": 259, "mm_tokens_per_image": 1}
    if name == "llava":
        vision = {**_VISION, "model_type": "clip_vision_model", "projection_dim": 16}
        return {"text_config": {**_TEXT, "model_type": "llama"}, "vision_config": vision, "image_token_index": 259}
    if name == "mistral3":
        vision = {**_VISION, "model_type": "pixtral"}
        return {"text_config": {**_TEXT, "model_type": "mistral"}, "vision_config": vision, "image_token_index": 259}
    own = {"depth": 1, "num_heads": 2, "hidden_size": 16, "patch_size": 4}
    if name == "qwen2_vl":
        own |= {"embed_dim": 16, "mlp_ratio": 2}
    else:
        own |= {"intermediate_size": 20, "out_hidden_size": 16, "deepstack_visual_indexes": []}
    return {"text_config": {**_TEXT, **_ROTARY}, "vision_config": own, "image_token_id": 259}


def wrapped_subject(name: str) -> Subject:
    """A tiny multimodal model of random weights, made ready."""
    import transformers

    kind = getattr(transformers, WRAPPERS[name][0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(kind.config_class(**_settings(name)))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return Subject.of(model.eval(), tiny_tokenizer(), label=f"tiny-{name}")
