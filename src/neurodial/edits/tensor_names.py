"""Which part of a model a tensor is, from its name: as its blocks call their parts, or as GGUF files do."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from neurodial.model.engine_names import engine_names
from neurodial.model.known_models import KnownModel

Kind = Literal["down", "up", "gate", "up_bias", "write", "embedding", "other"]
Form = Literal["safetensors", "gguf"]

_GGUF: dict[str, Kind] = {
    "ffn_down.weight": "down",
    "ffn_up.weight": "up",
    "ffn_up.bias": "up_bias",
    "ffn_gate.weight": "gate",
    "attn_output.weight": "write",
}
_GGUF_NAME = re.compile(r"blk\.(\d+)\.(.+)")
_EMBEDDINGS = {"embed_tokens.weight", "wte.weight", "embed_in.weight", "token_embd.weight"}
_MAY_BE_ALONE = re.compile(
    r"(lm_head|output|embed_out)\.weight|rope_freqs\.weight|.*rotary_emb\.inv_freq|.*\.masked_bias"
)


class PartName(NamedTuple):
    """Which part of a model a tensor is.

    Attributes:
        name: the tensor's name in the base.
        kind: down, up (with the gate where both are one), gate, the up projection's bias, attention's write, the
            embedding, or other.
        layer: of which block; None outside of the blocks.
        is_transposed: stored as (in, out).
    """

    name: str
    kind: Kind
    layer: int | None
    is_transposed: bool = False

    @property
    def is_mlp(self) -> bool:
        """Whether single lines of it belong to single neurons."""
        return self.kind in {"down", "up", "gate", "up_bias"}

    @property
    def neuron_axis(self) -> int:
        """Along which axis the neurons lie: a neuron's line is a column where they lie along axis 1."""
        return int((self.kind == "down") != self.is_transposed)

    @property
    def title(self) -> str:
        """Its name without the block's number: the same for every block."""
        if self.layer is None:
            return self.name
        return re.sub(rf"(^|\.){self.layer}\.", r"\g<1>N.", self.name, count=1)


def part_of(name: str, model: KnownModel, form: Form) -> PartName:
    """The part that a tensor of a file is.

    Example:
        >>> from neurodial.model.known_models import known_model
        >>> part_of("model.layers.3.mlp.down_proj.weight", known_model("llama"), "safetensors")
        PartName(name='model.layers.3.mlp.down_proj.weight', kind='down', layer=3, is_transposed=False)
        >>> part_of("blk.3.ffn_down.weight", known_model("llama"), "gguf").title
        'blk.N.ffn_down.weight'
    """
    if ".".join(name.split(".")[-2:]) in _EMBEDDINGS:
        return PartName(name, "embedding", None)
    if form == "gguf":
        match = _GGUF_NAME.fullmatch(name)
        return PartName(name, "other" if match is None else _GGUF.get(match[2], "other"), match and int(match[1]))
    names = model.block_names
    match = None if names is None else re.fullmatch(rf"(?:.*\.)?{names.blocks}\.(\d+)\.(.+)", name)
    if names is None or match is None:
        return PartName(name, "other", None)
    paths: dict[Kind, tuple[str, ...]] = {"write": names.writes, "gate": names.gate, "up": names.up, "down": names.down}
    kinds: dict[str, Kind] = {f"{path}.weight": kind for kind, own in paths.items() for path in own}
    kinds |= {f"{path}.bias": "up_bias" for path in names.up}
    kind = kinds.get(match[2], "other")
    return PartName(name, kind, int(match[1]), names.transposed and kind in {"down", "up", "write"})


def may_be_alone(name: str) -> bool:
    """Whether a tensor may stand in one file of a model and not in another: tied heads, and what can be computed."""
    return _MAY_BE_ALONE.fullmatch(name) is not None


def kept_otherwise(name: str, model: KnownModel) -> bool:
    """Whether a GGUF file keeps this tensor in another form than a checkpoint, by its name in the GGUF file."""
    part = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    engines = engine_names(model.name)
    moved = {*engines.gguf_interleaved, *engines.gguf_rearranged}
    return part in moved or (model.block_names is not None and model.block_names.adds_one and part.endswith("norm"))
