"""Which rows of an experts' weight scale its neurons exactly, measured in the live model.

For each other stacked parameter of the experts, and each half of it: its rows times -2 must make every activation -2
times what it was, bit for bit. A power of two needs no tolerance, and the sign tells `up` from what goes through an
activation. The weights are given back by -0.5.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurodial.model.head import hidden_states
from neurodial.model.hooks import on_experts
from neurodial.model.layout import MapRows, Part
from neurodial.model.subject import Subject

_PARTS: tuple[Part, ...] = ("all", "second", "first", "odd", "even")
_TOKENS = 8


@torch.no_grad()
def up_rows(subject: Subject, layer: int) -> MapRows | None:
    """The parameter of a layer's routed experts, and the part of it, whose rows scale the neurons; None without any.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> up_rows(tiny_subject("mixtral"), 0), up_rows(tiny_subject("gpt_oss"), 0)
        (MapRows(path='gate_up_proj', part='second'), None)
    """
    site = subject.experts(layer)
    module = subject.blocks[layer].get_submodule(site.module)
    wanted = -2 * _activations(subject, layer)
    for rows, view in _candidates(module, site.down, site.width):
        view.mul_(-2)
        try:
            found = _activations(subject, layer)
        finally:
            view.mul_(-0.5)
        if torch.equal(found, wanted):
            return rows
    return None


def _candidates(module: nn.Module, down: str, width: int) -> Iterator[tuple[MapRows, Tensor]]:
    """Parts of other stacked parameters that have a row for each neuron, as views."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dim() != 3 or name == down:
            continue
        for axis in (1, 2):
            for part in _PARTS:
                rows = MapRows(name, part)
                if parameter.shape[axis] == (width if part == "all" else 2 * width):
                    taken = (slice(None), *[slice(None)] * (axis - 1), rows.features(width))
                    yield rows, parameter.data[taken]


def _activations(subject: Subject, layer: int) -> Float[Tensor, "visit neuron"]:
    seen: list[Tensor] = []
    handle = on_experts(subject, layer, lambda values, _: seen.append(values.clone()))
    try:
        hidden_states(subject, torch.arange(_TOKENS)[None] % subject.model.config.get_text_config().vocab_size)
    finally:
        handle.remove()
    return torch.cat(seen)
