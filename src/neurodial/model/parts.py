"""The parts of a model that linearisation rules apply to, found through its layout.

`tracing/linearize.py` changes their gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurodial.errors import ModelError
from neurodial.model.block_parts import head_sizes
from neurodial.model.layout import BlockLayout, Layout, NormPart
from neurodial.model.subject import Subject


@dataclass(frozen=True, eq=False)
class Norm:
    """A norm that gives `scale * (x - centre) / deviation (+ bias)`.

    Attributes:
        module: the norm.
        is_centred: LayerNorm subtracts the mean; RMSNorm does not.
        plus_one: the scale is one plus the weight.
        epsilon: what is added to the mean square.
    """

    module: nn.Module
    is_centred: bool
    plus_one: bool
    epsilon: float

    @property
    def scale(self) -> Float[Tensor, "feature"] | None:
        """What the normalised input is multiplied by; None for ones."""
        weight = cast("Tensor | None", getattr(self.module, "weight", None))
        if weight is None:
            return None
        weight = weight.detach()
        return weight.to(torch.promote_types(weight.dtype, torch.float32)) + 1 if self.plus_one else weight


def untraceable(layout: Layout) -> str | None:
    """Why the linearisation rules can't be put on a model; None where they can."""
    for layer, block in enumerate(layout.blocks):
        reason = _untraceable_block(block)
        if reason is not None:
            return f"in layer {layer} {reason}"
    if layout.head.path is None:
        return "how hidden states become logits is not known"
    if not layout.head.is_map:
        return "logits come through more than one linear map"
    if layout.final_norm is not None and layout.final_norm.kind == "unknown":
        return f"the formula of the norm {layout.final_norm.path} is not known"
    return None


def _untraceable_block(block: BlockLayout) -> str | None:
    site = block.site
    if block.routed:
        return "there are routed experts"
    if site is None:
        return "there is no MLP"
    if site.up is None or (site.is_gated and site.gate is None):
        return "gate and up can't be told apart"
    if site.activation is None:
        return "the activation is no module"
    if not block.writes_add_up:
        return "the writes to the residual stream don't add up"
    unknown = next((norm.path for norm in chain(block.norms, block.inner_norms) if norm.kind == "unknown"), None)
    if unknown is not None:
        return f"the formula of the norm {unknown} is not known"
    if block.values == "unknown":
        return "attention's values can't be told from queries and keys"
    return None


def refuse_untraceable(subject: Subject) -> None:
    """Refuse a model that the linearisation rules can't be put on.

    Raises:
        ModelError: says what is missing.
    """
    reason = untraceable(subject.layout)
    if reason is not None:
        raise ModelError(
            f"{subject.label} can't be traced: {reason}.",
            wanted="a dense decoder whose norms, activations, queries and keys are all known",
            fix="Method dose gives the effect of every neuron without the rules.",
        )


def residual_norms(subject: Subject) -> list[Norm]:
    """The norms on the residual stream and on the writes to it, and the final norm."""
    norms = [_norm(subject, block.path, norm) for block in subject.layout.blocks for norm in block.norms]
    final = subject.layout.final_norm
    return norms if final is None else [*norms, _norm(subject, "", final)]


def norm_before_mlp(block: BlockLayout) -> NormPart | None:
    """The norm whose output a block's MLP reads, or None where it reads the stream itself.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> blocks = {name: tiny_subject(name).layout.blocks[0] for name in ("llama", "gemma2", "olmo2")}
        >>> [before and before.path for before in map(norm_before_mlp, blocks.values())]
        ['post_attention_layernorm', 'pre_feedforward_layernorm', None]
    """
    written = {write.path for write in block.attention}
    paths = [norm.path for norm in block.norms]
    write = None if block.site is None else block.site.write.path
    before = block.norms[: paths.index(write)] if write in paths else block.norms
    return before[-1] if before and before[-1].path not in written else None


def gain_before_mlp(subject: Subject, layer: int) -> Float[Tensor, "hidden"] | None:
    """What the norm before a block's MLP multiplies the normalised stream by; None for ones.

    Raises:
        ModelError: the norm's formula is not known.
    """
    block = subject.layout.blocks[layer]
    norm = norm_before_mlp(block)
    return None if norm is None else _norm(subject, block.path, norm).scale


def query_key_norms(subject: Subject) -> list[Norm]:
    """The norms of queries and keys; few models have any."""
    return [_norm(subject, block.path, norm) for block in subject.layout.blocks for norm in block.inner_norms]


def final_gain(subject: Subject) -> Float[Tensor, "hidden"] | None:
    """What the final norm multiplies the normalised stream by; None for ones."""
    final = subject.layout.final_norm
    return None if final is None else _norm(subject, "", final).scale


def activations(subject: Subject) -> list[nn.Module]:
    """The activation function of each MLP.

    Raises:
        ModelError: one is no module.
    """
    modules = []
    for layer, site in subject.layout.sites:
        if site.activation is None:
            raise ModelError(f"The activation in layer {layer} of {subject.label} is no module.", wanted="a module")
        modules.append(_module(subject, subject.layout.blocks[layer].path, site.activation))
    return modules


def ups(subject: Subject) -> list[tuple[nn.Module, Float[Tensor, "feature"] | None]]:
    """The map whose output a gate multiplies, for each gated MLP, and which of its features (None: all)."""
    modules = []
    for layer, site in subject.layout.sites:
        if not site.is_gated or site.up is None:
            continue
        chosen = None if site.up.part == "all" else torch.zeros(2 * site.width)
        if chosen is not None:
            chosen[site.up.features(site.width)] = 1
        modules.append((_module(subject, subject.layout.blocks[layer].path, site.up.path), chosen))
    return modules


def query_keys(subject: Subject) -> list[tuple[nn.Module, Float[Tensor, "feature"] | None]]:
    """The maps that give queries and keys, and which of their features are values (None: no feature)."""
    return [
        (_module(subject, block.path, path), _value_mask(subject, block))
        for block in subject.layout.blocks
        for path in block.query_key
    ]


def _module(subject: Subject, block: str, path: str) -> nn.Module:
    return cast(nn.Module, subject.model.get_submodule(".".join(part for part in (block, path) if part)))


def _norm(subject: Subject, block: str, norm: NormPart) -> Norm:
    if norm.kind == "unknown":
        raise ModelError(f"The formula of the norm {norm.path} of {subject.label} is not known.", wanted="RMS or layer")
    return Norm(
        _module(subject, block, norm.path), norm.kind.startswith("layer"), "plus_one" in norm.kind, norm.epsilon
    )


def _value_mask(subject: Subject, block: BlockLayout) -> Float[Tensor, "feature"] | None:
    if block.values == "apart":
        return None
    heads, shared, size = head_sizes(subject.model.config.get_text_config())
    if block.values == "last":
        return torch.cat([torch.zeros((heads + shared) * size), torch.ones(shared * size)])
    return torch.cat([torch.zeros(2 * size), torch.ones(size)]).repeat(heads)
