"""Tiny random models of every causal model type of transformers: default configurations, sizes made small by name."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from neurodial.model.subject import Subject
from neurodial.model.tiny import tiny_tokenizer

PARAMETERS = 30_000_000
"""What a tiny model may have at most."""

_BY_SIZE: dict[Any, str] = {
    32: "hidden_size d_model n_embd dim embed_dim word_embed_proj_dim dim_model embedding_size emb_dim embedding_dim "
    "lru_width dim_model_base",
    48: "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner d_ff dim_ff inner_hidden_size "
    "ffn_hidden_size block_ff_dim feed_forward_size mlp_hidden_size dense_intermediate_size dff",
    2: "num_layers num_hidden_layers n_layer n_layers decoder_layers encoder_layers num_decoder_layers "
    "num_encoder_layers num_key_value_heads num_kv_heads num_global_key_value_heads swa_num_key_value_heads "
    "num_experts_per_tok top_k moe_topk num_experts_per_token moe_k moe_top_k top_k_experts o_groups index_n_heads "
    "linear_num_key_heads mamba_expand n_mamba_heads hc_mult num_codebooks type_vocab_size num_blocks",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads "
    "num_decoder_attention_heads num_encoder_attention_heads attention_heads swa_num_attention_heads num_experts "
    "num_local_experts n_routed_experts moe_num_experts linear_num_value_heads mamba_dt_rank time_step_rank",
    8: "head_dim d_kv dim_head kv_channels global_head_dim swa_head_dim attention_head_dim attention_head_size "
    "swa_v_head_dim qk_nope_head_dim qk_rope_head_dim v_head_dim rope_head_dim index_topk linear_key_head_dim "
    "linear_value_head_dim hidden_size_per_layer_input laurel_rank mamba_d_state mamba_n_heads mamba_d_head "
    "mamba_chunk_size mamba_num_heads mamba_head_dim chunk_size ssm_state_size state_size adapter_rank use_mem_rank "
    "rotary_dim block_multiple_of mamba_headdim",
    1: "n_shared_experts moe_num_shared_experts num_shared_experts num_shared_expert n_group topk_group "
    "num_expert_groups first_k_dense_replace num_dense_layers n_dense_layers first_dense_layers dense_layers "
    "decoder_sparse_step mamba_n_groups n_groups n_groups_ssm mamba_ngroups num_mem_blocks mtp_num_hidden_layers",
    0: "num_zero_experts zero_expert_num num_kv_shared_layers num_nextn_predict_layers num_mtp_layers num_hash_layers",
    24: "moe_intermediate_size expert_ffn_hidden_size expert_dim",
    40: "shared_expert_intermediate_size shared_intermediate_size moe_shared_expert_intermediate_size "
    "intermediate_size_mlp moe_shared_intermediate_size",
    16: "q_lora_rank kv_lora_rank qk_head_dim o_lora_rank index_head_dim sliding_window attention_chunk_size "
    "local_window_size sliding_window_size position_buckets",
    3: "linear_conv_kernel_dim mamba_d_conv conv_L_cache",
    64: "mamba_d_ssm",
    512: "max_position_embeddings n_positions n_ctx max_seq_len context_length max_source_positions "
    "max_target_positions",
    256: "bos_token_id decoder_start_token_id",
    257: "eos_token_id sep_token_id",
    258: "pad_token_id",
    260: "vocab_size n_vocab vocab_size_per_layer_input",
    28: "image_size",
    14: "patch_size",
}
_SMALL = {name: size for size, names in _BY_SIZE.items() for name in names.split()}
_SMALL |= {"image_token_id": 250, "image_token_index": 250, "video_token_id": 251, "audio_token_id": 252}
_SMALL |= {"audio_token_index": 252, "boi_token_id": 253, "eoi_token_id": 254}
_SMALL |= {"axial_pos_shape": (16, 32), "axial_pos_embds_dim": (16, 16)}
_SET_IF_NONE = {"hidden_size", "intermediate_size", "pad_token_id", "bos_token_id", "eos_token_id"}
_KINDS = ("layer_types", "layers_block_type", "mlp_layer_types", "block_types", "layers_types", "layer_type_list")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")

_MLA = (
    "axk1 axk2 bailing_hybrid deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa kimi_linear longcat_flash "
    "minicpm3 youtu dots3_note dots3_note_text"
)
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "deepseek_v2": {"topk_method": "greedy", "num_experts_per_tok": 2},
    "dots1": {
        "layer_types": ["full_attention", "full_attention"],
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 24,
    },
    "flint": {
        "num_hidden_layers": 3,
        "mlp_only_layers": [0],
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "num_hidden_layers": 2},
    "hunyuan_v1_dense": {"rope_parameters": _ROPE, "head_dim": 8},
    "hunyuan_v1_moe": {"rope_parameters": _ROPE, "head_dim": 8, "moe_topk": 2, "num_experts_per_tok": 2},
    "jamba": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2},
    "ministral": {"rope_parameters": _ROPE, "layer_types": ["full_attention", "sliding_attention"], "head_dim": 8},
    "mpt": {"expansion_ratio": 2},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "qwen2_5_vl_text": {"rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]}},
    "qwen2_vl_text": {"rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]}},
    "roc_bert": {"enable_pronunciation": False, "enable_shape": False},
    "xlm": {"causal": True},
    "xlstm": {"num_heads": 4, "chunk_size": 4, "num_hidden_layers": 2, "num_blocks": 2},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
    "zamba2": {
        "attention_head_dim": 16,
        "attention_hidden_size": 64,
        "num_key_value_heads": 4,
        "n_mamba_heads": 8,
        "layers_block_type": ["mamba", "hybrid", "mamba"],
        "num_hidden_layers": 3,
    },
}
for _name in _MLA.split():
    _OWN.setdefault(_name, {})["num_key_value_heads"] = 4


def causal_types() -> list[str]:
    """Every model type that transformers has a causal language model for."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


IMAGE_TYPES = [
    "aya_vision",
    "cohere2_vision",
    "deepseek_vl",
    "gemma3",
    "gemma4",
    "glm4v",
    "idefics3",
    "internvl",
    "kimi_k25",
    "llama4",
    "llava",
    "minimax_m3_vl",
    "mistral3",
    "mllama",
    "paligemma",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_vl",
    "smolvlm",
]
"""Wrappers of images and text, of which the text part is read and steered."""


def small_config(kind: type, depth: int = 0) -> Any:
    """A configuration whose sizes are small, and whose layers are of every kind that its default has."""
    default = kind()
    parts = getattr(kind, "sub_configs", None) or {}
    values: dict[str, Any] = {}
    for name, value in vars(default).items():
        is_size = not isinstance(value, dict | bool) and (value is not None or name in _SET_IF_NONE)
        is_list = isinstance(value, list | tuple) and name not in {
            "axial_pos_shape",
            "axial_pos_embds_dim",
            "eos_token_id",
        }
        if name in _SMALL and name not in parts and is_size and not is_list:
            values[name] = _SMALL[name]
    for name, other in (getattr(kind, "attribute_map", None) or {}).items():
        if name in values:
            values[other] = values.pop(name)
    layers = max((len(dict.fromkeys(vars(default).get(name) or ())) for name in _KINDS), default=0)
    for name in _KINDS:
        listed = vars(default).get(name)
        if isinstance(listed, list | tuple) and listed:
            values[name] = (list(dict.fromkeys(listed)) * max(2, layers))[: max(2, layers)]
            values |= {count: max(2, layers) for count in _LAYERS if count in values}
    for name in parts:
        part = getattr(default, name, None)
        if part is not None and hasattr(part, "model_type") and depth < 3:
            values[name] = small_config(type(part), depth + 1)
    return kind(**values) if not (own := _OWN.get(kind.model_type)) else kind(**{**values, **own})


def _dbrx() -> Any:
    from transformers.models.dbrx.configuration_dbrx import DbrxAttentionConfig, DbrxConfig, DbrxFFNConfig

    attention = DbrxAttentionConfig(kv_n_heads=2, clip_qkv=8.0)
    attention.rope_theta = 1e4
    experts = DbrxFFNConfig(hidden_size=32, ffn_hidden_size=24, moe_num_experts=4, moe_top_k=2)
    sizes = {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256, "vocab_size": 260}
    return DbrxConfig(attn_config=attention, ffn_config=experts, bos_token_id=256, eos_token_id=257, **sizes)


def tiny_of(model_type: str, *, images: bool = False) -> Any:
    """A random model of a type, weights of ordinary size, in evaluation mode."""
    config = _dbrx() if model_type == "dbrx" else small_config(CONFIG_MAPPING[model_type])
    if hasattr(config, "is_decoder") and not getattr(config, "is_encoder_decoder", False):
        config.is_decoder = True
    auto = AutoModelForImageTextToText if images else AutoModelForCausalLM
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in auto.from_config(config).parameters())
    if count > PARAMETERS:
        raise MemoryError(f"{count / 1e6:.0f} million parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(config, attn_implementation="eager").float().eval()
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point() and parameter.dim() >= 2:
                fan = max(2, parameter.shape[-1])
                spread = 0.5 if "embed" in name or "wte" in name else 1.5 * fan**-0.5
                parameter.data = torch.randn(parameter.shape, generator=generator) * spread
            elif parameter.is_floating_point() and name.endswith("bias"):
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


@cache
def tokenizer() -> Any:
    """The byte tokenizer without a chat template."""
    return tiny_tokenizer(chat=False)


def zoo_subject(model_type: str, *, images: bool = False) -> Subject:
    """A tiny model of a type, made ready."""
    return Subject.of(tiny_of(model_type, images=images), tokenizer(), label=f"tiny-{model_type}")
