"""Which part of a model a tensor is, from its name: as the family's record names modules, or as GGUF files do."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from neurodial.model.families import Family

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


def part_of(name: str, family: Family, form: Form) -> PartName:
    """The part that a tensor of a file is.

    Example:
        >>> from neurodial.model.families import FAMILIES
        >>> part_of("model.layers.3.mlp.down_proj.weight", FAMILIES[0], "safetensors")
        PartName(name='model.layers.3.mlp.down_proj.weight', kind='down', layer=3, is_transposed=False)
        >>> part_of("blk.3.ffn_down.weight", FAMILIES[0], "gguf").title
        'blk.N.ffn_down.weight'
    """
    if ".".join(name.split(".")[-2:]) in _EMBEDDINGS:
        return PartName(name, "embedding", None)
    if form == "gguf":
        match = _GGUF_NAME.fullmatch(name)
        return PartName(name, "other" if match is None else _GGUF.get(match[2], "other"), match and int(match[1]))
    match = re.fullmatch(rf"(?:.*\.)?{family.blocks}\.(\d+)\.(.+)", name)
    if match is None:
        return PartName(name, "other", None)
    write = "self_attn.o_proj" if family.mlp_write != family.down else family.attention_write
    kinds: dict[str, Kind] = {f"{family.down}.weight": "down", f"{family.up}.weight": "up", f"{write}.weight": "write"}
    kinds |= {f"{family.up}.bias": "up_bias", f"{family.gate}.weight": "gate"}
    kind = kinds.get(match[2], "other")
    return PartName(name, kind, int(match[1]), family.transposed and kind in {"down", "up", "write"})


def may_be_alone(name: str) -> bool:
    """Whether a tensor may stand in one file of a model and not in another: tied heads, and what can be computed."""
    return _MAY_BE_ALONE.fullmatch(name) is not None


def kept_otherwise(name: str, family: Family) -> bool:
    """Whether a GGUF file keeps this tensor in another form than a checkpoint, by its name in the GGUF file."""
    part = name.removesuffix(".weight").removesuffix(".bias").rpartition(".")[2]
    moved = {*family.gguf_interleaved, *family.gguf_rearranged}
    return part in moved or (family.norm == "rms_plus_one" and part.endswith("norm"))
