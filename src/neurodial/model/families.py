"""One frozen record per model family: where the blocks and their MLPs are. Data, not code.

Paths of `blocks` and `final_norm` start at the text decoder (`model.get_decoder()`), all others at a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neurodial.errors import UnknownFamilyError

NormKind = Literal["rms", "rms_plus_one", "layer"]


@dataclass(frozen=True)
class Family:
    """Where a family of models keeps the parts that neurodial reads and writes.

    Attributes:
        name: the family's name.
        model_types: `model_type` of the text configurations that it describes.
        blocks: list of decoder blocks, in the decoder.
        down: the MLP's linear map back to the residual stream; a neuron is a coordinate of its input.
        up: the linear map whose output row j feeds neuron j; with `fused` it holds gate and up.
        gate: the gate's linear map, None where the MLP has none or where it is fused into `up`.
        activation: the module of the activation function.
        attention_write: the module whose output attention adds to the residual stream.
        mlp_write: the module whose output the MLP adds to the residual stream.
        norms: the block's norms on the residual stream, in the order of their use.
        final_norm: the norm after the last block, in the decoder.
        fused: `up` holds gate rows first and up rows second.
        transposed: weights are (in, out), as in Conv1D.
        up_rows_scale: scaling row j of `up` scales neuron j exactly: `act(gate) * up` and nothing between.
        flattens: the MLP sees (batch * token, hidden) instead of (batch, token, hidden).
        norm: `rms`, weight times the normalised input; `rms_plus_one`, one plus the weight; `layer`, LayerNorm.
        query_key: the linear maps that give attention its queries and keys.
        values: where the values come from: `apart`, a map of their own; `last`, the last features of the map in
            `query_key`; `by_head`, the last third of each head's features of it.
        query_key_norms: norms of queries and keys, where there are any.
        gguf: llama.cpp's name of the architecture, None where llama.cpp does not run it.
        gguf_interleaved: weights of a GGUF file in which each head's rows are interleaved, first half with second half.
        gguf_rearranged: weights that llama.cpp's converter rearranges in ways that an adapter can't follow.
        vllm_module: vLLM's name of the down projection, None where vLLM runs no LoRA on the family.
    """

    name: str
    model_types: tuple[str, ...]
    blocks: str
    down: str
    up: str
    gate: str | None
    activation: str
    attention_write: str
    mlp_write: str
    norms: tuple[str, ...]
    final_norm: str
    fused: bool = False
    transposed: bool = False
    up_rows_scale: bool = False
    flattens: bool = False
    norm: NormKind = "rms"
    query_key: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj")
    values: Literal["apart", "last", "by_head"] = "apart"
    query_key_norms: tuple[str, ...] = ()
    gguf: str | None = None
    gguf_interleaved: tuple[str, ...] = ()
    gguf_rearranged: tuple[str, ...] = ()
    vllm_module: str | None = "down_proj"

    @property
    def is_gated(self) -> bool:
        """Whether a neuron is `act(gate) * up`."""
        return self.gate is not None or self.fused


_LLAMA_CPP_HEADS = ("attn_q", "attn_k")
_QUERY_KEY_NORMS = ("self_attn.q_norm", "self_attn.k_norm")


def _llama_like(
    name: str,
    *model_types: str,
    gguf: str,
    gguf_interleaved: tuple[str, ...] = (),
    norm: NormKind = "rms",
    query_key_norms: tuple[str, ...] = (),
) -> Family:
    """Llama's layout: gate, up and down projections under `mlp`, norms before attention and MLP."""
    return Family(
        name=name,
        model_types=model_types,
        blocks="layers",
        down="mlp.down_proj",
        up="mlp.up_proj",
        gate="mlp.gate_proj",
        activation="mlp.act_fn",
        attention_write="self_attn.o_proj",
        mlp_write="mlp.down_proj",
        norms=("input_layernorm", "post_attention_layernorm"),
        final_norm="norm",
        up_rows_scale=True,
        norm=norm,
        query_key_norms=query_key_norms,
        gguf=gguf,
        gguf_interleaved=gguf_interleaved,
    )


def _post_normed(
    name: str,
    *model_types: str,
    gguf: str,
    norms: tuple[str, ...],
    norm: NormKind = "rms",
    query_key_norms: tuple[str, ...] = (),
) -> Family:
    """Llama's layout with a norm between each sublayer and the residual stream: the norm's output is the write."""
    return Family(
        name=name,
        model_types=model_types,
        blocks="layers",
        down="mlp.down_proj",
        up="mlp.up_proj",
        gate="mlp.gate_proj",
        activation="mlp.act_fn",
        attention_write="post_attention_layernorm",
        mlp_write="post_feedforward_layernorm",
        norms=norms,
        final_norm="norm",
        up_rows_scale=True,
        norm=norm,
        query_key_norms=query_key_norms,
        gguf=gguf,
    )


_GEMMA_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)

FAMILIES: tuple[Family, ...] = (
    _llama_like("llama", "llama", gguf="llama", gguf_interleaved=_LLAMA_CPP_HEADS),  # SmolLM and SmolLM2 too
    _llama_like("smollm3", "smollm3", gguf="smollm3", gguf_interleaved=_LLAMA_CPP_HEADS),
    _llama_like("mistral", "mistral", gguf="llama", gguf_interleaved=_LLAMA_CPP_HEADS),
    _llama_like("qwen2", "qwen2", "qwen2_vl_text", "qwen2_5_vl_text", gguf="qwen2"),
    _llama_like("qwen3", "qwen3", "qwen3_vl_text", gguf="qwen3", query_key_norms=_QUERY_KEY_NORMS),
    _llama_like("gemma", "gemma", gguf="gemma", norm="rms_plus_one"),
    _post_normed("gemma2", "gemma2", gguf="gemma2", norms=_GEMMA_NORMS, norm="rms_plus_one"),
    _post_normed(
        "gemma3",
        "gemma3",
        "gemma3_text",
        gguf="gemma3",
        norms=_GEMMA_NORMS,
        norm="rms_plus_one",
        query_key_norms=_QUERY_KEY_NORMS,
    ),
    _post_normed(
        "olmo2",
        "olmo2",
        gguf="olmo2",
        norms=("post_attention_layernorm", "post_feedforward_layernorm"),
        query_key_norms=_QUERY_KEY_NORMS,
    ),
    Family(
        name="phi3",
        model_types=("phi3",),
        blocks="layers",
        down="mlp.down_proj",
        up="mlp.gate_up_proj",
        gate=None,
        activation="mlp.activation_fn",
        attention_write="self_attn.o_proj",
        mlp_write="mlp.down_proj",
        norms=("input_layernorm", "post_attention_layernorm"),
        final_norm="norm",
        fused=True,
        up_rows_scale=True,
        query_key=("self_attn.qkv_proj",),
        values="last",
        gguf="phi3",
    ),
    Family(
        name="gpt2",
        model_types=("gpt2",),
        blocks="h",
        down="mlp.c_proj",
        up="mlp.c_fc",
        gate=None,
        activation="mlp.act",
        attention_write="attn.c_proj",
        mlp_write="mlp.c_proj",
        norms=("ln_1", "ln_2"),
        final_norm="ln_f",
        transposed=True,
        norm="layer",
        query_key=("attn.c_attn",),
        values="last",
        gguf="gpt2",
        vllm_module=None,
    ),
    Family(
        name="gpt_neox",
        model_types=("gpt_neox",),
        blocks="layers",
        down="mlp.dense_4h_to_h",
        up="mlp.dense_h_to_4h",
        gate=None,
        activation="mlp.act",
        attention_write="attention.dense",
        mlp_write="mlp.dense_4h_to_h",
        norms=("input_layernorm", "post_attention_layernorm"),
        final_norm="final_layer_norm",
        norm="layer",
        query_key=("attention.query_key_value",),
        values="by_head",
        gguf="gptneox",
        gguf_rearranged=("attn_qkv",),
        vllm_module=None,
    ),
    Family(
        name="opt",
        model_types=("opt",),
        blocks="layers",
        down="fc2",
        up="fc1",
        gate=None,
        activation="activation_fn",
        attention_write="self_attn.out_proj",
        mlp_write="fc2",
        norms=("self_attn_layer_norm", "final_layer_norm"),
        final_norm="final_layer_norm",
        flattens=True,
        norm="layer",
        vllm_module="fc2",
    ),
)

_BY_TYPE = {model_type: family for family in FAMILIES for model_type in family.model_types}
_EXPERT_FIELDS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "moe_intermediate_size")


def family_of(text_config: object) -> Family:
    """The record that describes a model, from its text configuration.

    Args:
        text_config: a transformers configuration, `config.get_text_config()`.

    Raises:
        UnknownFamilyError: no record describes it, or it is a mixture of experts; the message holds the record
            to write.
    """
    model_type = str(getattr(text_config, "model_type", "unknown"))
    experts = next((name for name in _EXPERT_FIELDS if getattr(text_config, name, None)), None)
    if experts is not None:
        raise UnknownFamilyError(
            f"The model type {model_type!r} is a mixture of experts ({experts} = {getattr(text_config, experts)}).",
            wanted="a dense model; the neurons of experts can't be read yet",
            fix=f"Families that work: {', '.join(family.name for family in FAMILIES)}.",
        )
    if model_type in _BY_TYPE:
        return _BY_TYPE[model_type]
    raise UnknownFamilyError(
        f"No family record describes the model type {model_type!r}.",
        wanted=f"one of {', '.join(sorted(_BY_TYPE))}",
        fix=_record_to_write(model_type),
    )


def _record_to_write(model_type: str) -> str:
    return (
        "To teach neurodial this family, add a record to neurodial/model/families.py with the module paths that "
        "print(model) shows; norm is rms, rms_plus_one or layer:\n"
        f"    Family(name={model_type!r}, model_types=({model_type!r},), blocks='layers', "
        "down='mlp.down_proj', up='mlp.up_proj', gate='mlp.gate_proj' or None, activation='mlp.act_fn', "
        "attention_write='self_attn.o_proj', mlp_write='mlp.down_proj', norms=('input_layernorm', "
        "'post_attention_layernorm'), norm='rms', query_key=('self_attn.q_proj', 'self_attn.k_proj'), "
        "final_norm='norm')"
    )
