"""Columns of a down projection: what each of its neurons writes."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import nn

from neurodial.circuit.site import Site
from neurodial.errors import ModelError
from neurodial.model.plain_weight import is_plain


def has_columns(module: nn.Module) -> bool:
    """Whether a down projection holds its columns as plain numbers, and nothing else adds to them."""
    from transformers.pytorch_utils import Conv1D

    return type(module) in {nn.Linear, Conv1D} and is_plain(getattr(module, "weight", None))


def readable(weight: Any, site: Site, *, transposed: bool) -> torch.Tensor:
    """A weight with the neurons last; a view.

    Raises:
        ModelError: it is quantised or offloaded.
    """
    if not is_plain(weight):
        raise ModelError(
            f"The down projection of layer {site.layer} is quantised or offloaded.",
            wanted="a weight whose columns can be read",
            fix="Load the model unquantised and on one device.",
        )
    return weight.mT if transposed else weight


@torch.no_grad()
def probed_columns(
    module: nn.Module, width: int, indices: list[int], like: torch.Tensor, label: str
) -> Float[torch.Tensor, "hidden column"]:
    """Columns of a quantised, offloaded or adapted projection: its outputs for unit vectors, less that for zero.

    Args:
        module: the projection.
        width: number of its neurons.
        indices: of the columns.
        like: a tensor of the dtype and on the device of its inputs.
        label: what the model is called.

    Raises:
        ModelError: it gives no finite columns.
    """
    units = like.new_zeros(len(indices) + 1, width)
    units[range(len(indices)), indices] = 1
    try:
        answers = cast(torch.Tensor, module(units)).float().cpu()
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise _no_columns(label, str(error).splitlines()[0]) from error
    columns = (answers[:-1] - answers[-1]).T
    if not bool(torch.isfinite(columns).all()) or bool((columns == 0).all()):
        raise _no_columns(label, "it answers unit vectors with zeros, NaN or infinities")
    return columns


def _no_columns(label: str, reason: str) -> ModelError:
    return ModelError(
        f"The columns of a down projection of {label} can't be read: {reason}.",
        wanted="a model whose down projections can be dequantised",
        fix="Load the model unquantised.",
    )
