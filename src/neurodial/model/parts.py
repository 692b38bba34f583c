"""The parts of a model that linearisation rules apply to, found through the family record.

`tracing/linearize.py` changes their gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurodial.errors import ModelError
from neurodial.model.subject import Subject, get_module

_EPSILON = {"rms": "variance_epsilon", "rms_plus_one": "eps", "layer": "eps"}


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
        weight = cast("Tensor | None", self.module.weight)
        if weight is None:
            return None
        weight = weight.detach()
        return weight.to(torch.promote_types(weight.dtype, torch.float32)) + 1 if self.plus_one else weight


def residual_norms(subject: Subject) -> list[Norm]:
    """The norms on the residual stream and on the writes to it, and the final norm."""
    family = subject.family
    modules = [_module(subject, layer, path) for layer in range(subject.layers) for path in family.norms]
    final = get_module(subject.decoder, family.final_norm)
    return [_norm(subject, module) for module in (*modules, *([] if final is None else [final]))]


def query_key_norms(subject: Subject) -> list[Norm]:
    """The norms of queries and keys; few families have any."""
    paths = subject.family.query_key_norms
    return [_norm(subject, _module(subject, layer, path)) for layer in range(subject.layers) for path in paths]


def activations(subject: Subject) -> list[nn.Module]:
    """The activation function of each MLP."""
    return [_module(subject, layer, subject.family.activation) for layer in range(subject.layers)]


def ups(subject: Subject) -> list[tuple[nn.Module, Float[Tensor, "feature"] | None]]:
    """The map whose output a gate multiplies, for each gated MLP, and which of its features (None: all)."""
    modules = []
    for layer, width in enumerate(subject.widths):
        mask = torch.cat([torch.zeros(width), torch.ones(width)]) if subject.family.fused else None
        modules.append((_module(subject, layer, subject.family.up), mask))
    return modules


def query_keys(subject: Subject) -> list[tuple[nn.Module, Float[Tensor, "feature"] | None]]:
    """The maps that give queries and keys, and which of their features are values (None: no feature)."""
    mask = None if subject.family.values == "apart" else _value_mask(subject)
    paths = subject.family.query_key
    return [(_module(subject, layer, path), mask) for layer in range(subject.layers) for path in paths]


def _module(subject: Subject, layer: int, path: str) -> nn.Module:
    module = get_module(subject.blocks[layer], path)
    if module is None:
        raise ModelError(
            f"Layer {layer} of {subject.label} has no module {path!r}.",
            wanted=f"the parts that the {subject.family.name} family record names",
            fix="This model departs from its family; write a record of its own.",
        )
    return module


def _norm(subject: Subject, module: nn.Module) -> Norm:
    kind = subject.family.norm
    return Norm(module, kind == "layer", kind == "rms_plus_one", float(getattr(module, _EPSILON[kind])))


def _value_mask(subject: Subject) -> Float[Tensor, "feature"]:
    config = subject.model.config.get_text_config()
    heads = int(config.num_attention_heads)
    shared = int(getattr(config, "num_key_value_heads", None) or heads)
    size = int(getattr(config, "head_dim", None) or subject.hidden_size // heads)
    if subject.family.values == "last":
        return torch.cat([torch.zeros((heads + shared) * size), torch.ones(shared * size)])
    return torch.cat([torch.zeros(2 * size), torch.ones(size)]).repeat(heads)
