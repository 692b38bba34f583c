"""Which rows of an experts' weight scale its neurons exactly, measured in the live model.

For each other stacked parameter of the experts, and each half of it: its rows times -2 must make every activation -2
times what it was, bit for bit. A power of two needs no tolerance, and the sign tells `up` from what goes through an
activation. The weights are given back by -0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurodial.circuit.site import Neuron
from neurodial.model.head import hidden_states
from neurodial.model.hooks import on_experts
from neurodial.model.layout import MapRows, Part
from neurodial.model.plain_weight import is_plain
from neurodial.model.subject import Subject

_PARTS: tuple[Part, ...] = ("all", "second", "first", "odd", "even")
_TOKENS = 8
_FOUND: WeakKeyDictionary[nn.Module, tuple[MapRows, int] | None] = WeakKeyDictionary()
"""What was found in each experts module: a row's place does not change with the weights."""


def up_rows(subject: Subject, layer: int) -> MapRows | None:
    """The parameter of a layer's routed experts, and the part of it, whose rows scale the neurons; None without any.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> up_rows(tiny_subject("mixtral"), 0), up_rows(tiny_subject("gpt_oss"), 0)
        (MapRows(path='gate_up_proj', part='second'), None)
    """
    found = _found(subject, layer)
    return None if found is None else found[0]


def up_row(subject: Subject, neuron: Neuron) -> Float[Tensor, "hidden"] | None:
    """The row of a routed expert's neuron that scales it, a view; None where there is none that can be read.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> up_row(tiny_subject("mixtral"), Neuron(0, 1, 3)).shape
        torch.Size([16])
    """
    found, site = _found(subject, neuron.layer), subject.experts(neuron.layer)
    module = subject.blocks[neuron.layer].get_submodule(site.module)
    return None if found is None or neuron.expert is None else _view(module, *found, site.width)[neuron.place]


@torch.no_grad()
def _found(subject: Subject, layer: int) -> tuple[MapRows, int] | None:
    """The rows, and the axis of the parameter that they lie along."""
    site = subject.experts(layer)
    module = subject.blocks[layer].get_submodule(site.module)
    if module in _FOUND:
        return _FOUND[module]
    _FOUND[module] = None
    if not all(is_plain(parameter) for parameter in module.parameters(recurse=False)):
        return None
    wanted = -2 * _activations(subject, layer)
    for rows, axis in _candidates(module, site.down, site.width):
        view = _view(module, rows, axis, site.width)
        view.mul_(-2)
        try:
            found = _activations(subject, layer)
        finally:
            view.mul_(-0.5)
        if torch.equal(found, wanted):
            _FOUND[module] = rows, axis
            break
    return _FOUND[module]


def _candidates(module: nn.Module, down: str, width: int) -> Iterator[tuple[MapRows, int]]:
    """Parts of other stacked parameters that have a row for each neuron, and along which axis."""
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dim() != 3 or name == down:
            continue
        for axis in (1, 2):
            for part in _PARTS:
                rows = MapRows(name, part)
                if parameter.shape[axis] == (width if part == "all" else 2 * width):
                    yield rows, axis


def _view(module: nn.Module, rows: MapRows, axis: int, width: int) -> Float[Tensor, "expert neuron hidden"]:
    return module.get_parameter(rows.path).data.movedim(axis, 1)[:, rows.features(width)]


def _activations(subject: Subject, layer: int) -> Float[Tensor, "visit neuron"]:
    seen: list[Tensor] = []
    handle = on_experts(subject, layer, lambda values, _: seen.append(values.clone()))
    try:
        hidden_states(subject, torch.arange(_TOKENS)[None] % subject.model.config.get_text_config().vocab_size)
    finally:
        handle.remove()
    return torch.cat(seen)
