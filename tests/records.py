"""Where the parts of a dozen families of models are, read in their source: what measuring must find too.

Paths of `blocks` and `final_norm` start at the text decoder (`model.get_decoder()`), all others at a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NormKind = Literal["rms", "rms_plus_one", "layer"]


@dataclass(frozen=True)
class Record:
    """Where a family of models keeps its parts.

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

    @property
    def is_gated(self) -> bool:
        """Whether a neuron is `act(gate) * up`."""
        return self.gate is not None or self.fused


_QUERY_KEY_NORMS = ("self_attn.q_norm", "self_attn.k_norm")


def _llama_like(
    name: str,
    *model_types: str,
    norm: NormKind = "rms",
    query_key_norms: tuple[str, ...] = (),
) -> Record:
    """Llama's layout: gate, up and down projections under `mlp`, norms before attention and MLP."""
    return Record(
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
    )


def _post_normed(
    name: str,
    *model_types: str,
    norms: tuple[str, ...],
    norm: NormKind = "rms",
    query_key_norms: tuple[str, ...] = (),
) -> Record:
    """Llama's layout with a norm between each sublayer and the residual stream: the norm's output is the write."""
    return Record(
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
    )


_GEMMA_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)

RECORDS: tuple[Record, ...] = (
    _llama_like("llama", "llama"),  # SmolLM and SmolLM2 too
    _llama_like("smollm3", "smollm3"),
    _llama_like("mistral", "mistral"),
    _llama_like("qwen2", "qwen2", "qwen2_vl_text", "qwen2_5_vl_text"),
    _llama_like("qwen3", "qwen3", "qwen3_vl_text", query_key_norms=_QUERY_KEY_NORMS),
    _llama_like("gemma", "gemma", norm="rms_plus_one"),
    _post_normed("gemma2", "gemma2", norms=_GEMMA_NORMS, norm="rms_plus_one"),
    _post_normed(
        "gemma3",
        "gemma3",
        "gemma3_text",
        norms=_GEMMA_NORMS,
        norm="rms_plus_one",
        query_key_norms=_QUERY_KEY_NORMS,
    ),
    _post_normed(
        "olmo2",
        "olmo2",
        norms=("post_attention_layernorm", "post_feedforward_layernorm"),
        query_key_norms=_QUERY_KEY_NORMS,
    ),
    Record(
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
    ),
    Record(
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
    ),
    Record(
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
    ),
    Record(
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
    ),
)

_BY_TYPE = {model_type: family for family in RECORDS for model_type in family.model_types}


def record_of(subject) -> Record:
    """The record of a subject's family."""
    return _BY_TYPE[subject.layout.label]
