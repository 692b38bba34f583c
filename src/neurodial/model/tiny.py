"""Tiny random models of every family, with a byte tokenizer, for tests, docs and examples."""

from __future__ import annotations

from typing import Any

import torch

from neurodial.errors import UnknownNameError, near_names
from neurodial.model.subject import Subject

_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% if not loop.last or add_generation_prompt %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
_COMMON = {
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
_OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "smollm3": {"no_rope_layers": [1, 0]},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 8, "sliding_window": 32},
    "gemma3_text": {"query_pre_attn_scalar": 8, "sliding_window": 32},
    "olmo2": {},
    "phi3": {"sliding_window": None},
    "gpt2": {"n_inner": 24, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "gpt_neox": {},
    "opt": {"ffn_dim": 24, "word_embed_proj_dim": 16, "dropout": 0.0},
}
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
_OWN_ROUTED: dict[str, dict[str, Any]] = {
    "mixtral": {**_EXPERTS, "sliding_window": None},
    "qwen2_moe": {**_EXPERTS, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 20},
    "deepseek_v3": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 12,
        "num_key_value_heads": 2,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 4,
        "qk_rope_head_dim": 4,
        "head_dim": 4,
        "v_head_dim": 4,
    },
    "gpt_oss": {**_EXPERTS, "sliding_window": 32, "rope_scaling": None},
}
_DROPPED = {"gpt2": ("intermediate_size", "num_key_value_heads", "head_dim"), "opt": ("intermediate_size",)}

TINY_FAMILIES: tuple[str, ...] = tuple(_OWN)
"""Model types without routed experts that a tiny model can be made of."""
TINY_ROUTED: tuple[str, ...] = tuple(_OWN_ROUTED)
"""Those with routed experts: alone, beside a gated shared expert, after a dense layer, with biases and interleaved."""


def tiny_subject(model_type: str = "llama", *, seed: int = 0, chat: bool = True, **config: Any) -> Subject:
    """A tiny random model with its tokenizer, ready to be steered.

    Args:
        model_type: one of `TINY_FAMILIES` or `TINY_ROUTED`.
        seed: of the weights.
        chat: whether the tokenizer has a chat template.
        config: overrides of the model's configuration.

    Example:
        >>> tiny_subject("gpt2").layout.blocks[0].site.transposed
        True
    """
    model = tiny_model(model_type, seed=seed, **config)
    return Subject.of(model, tiny_tokenizer(chat=chat), label=f"tiny-{model_type}")


def tiny_model(model_type: str = "llama", *, seed: int = 0, **config: Any) -> Any:
    """A tiny random causal language model in evaluation mode, weights of ordinary size in float32.

    Raises:
        UnknownNameError: no tiny model of this type.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    own = _OWN | _OWN_ROUTED
    if model_type not in own:
        raise UnknownNameError(f"There is no tiny {model_type!r}.", fix=near_names(model_type, own))
    settings = {**_COMMON, **own[model_type], **config}
    for name in _DROPPED.get(model_type, ()):
        settings.pop(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings))
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tiny_tokenizer(*, chat: bool = True) -> Any:
    """A byte tokenizer: encoding and decoding any text gives it back; ids 256 to 258 begin, end and pad."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({character: number for number, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<bos>", "<eos>", "<pad>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 256)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    wrapped.chat_template = _TEMPLATE if chat else None
    return wrapped
