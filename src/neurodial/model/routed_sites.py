"""Which parameter of an experts module its neurons are multiplied by, proven by rebuilding what the module gave.

The block runs once more with its own weights. The rows that were multiplied by a parameter of three axes, times that
parameter, times the routing weights, summed over each token's experts, must be the module's output.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from neurodial.errors import SteeringError
from neurodial.model.experts import Tap, Visits
from neurodial.model.layout import RoutedSite
from neurodial.model.replay import CELLS, ROWS, TOKENS, Replay, expert_parameters, holds_experts

_ROUNDINGS = 16
"""Units in the last place that a sum in another order may differ by, as a norm; what is not the output differs by 1."""


class Seen(NamedTuple):
    """Rows that a parameter was multiplied by in one run of a block, and what its module gave."""

    rows: tuple[tuple[Tensor, Visits], ...]
    output: Tensor


def find_experts(replay: Replay) -> tuple[RoutedSite | None, dict[str, str]]:
    """The routed experts of a block whose neurons can be read, and why other modules with experts were rejected."""
    rejected: dict[str, str] = {}
    for path, module in replay.maps.items():
        if not holds_experts(module):
            continue
        reason = "nothing was seen to be multiplied by its weights"
        for name, parameter in expert_parameters(module).items():
            if parameter.dim() > 3:
                continue
            seen = _seen(replay, path, module, name)
            if isinstance(seen, str):
                reason = seen
            elif seen is not None:
                site = _proven(path, module, name, seen)
                if site is not None:
                    return site, rejected
                reason = "its output is not the sum of its experts' outputs times their routing weights"
        rejected[path] = reason
    return None, rejected | kept_otherwise(replay.block.module)


def kept_otherwise(block: nn.Module) -> dict[str, str]:
    """Experts of a block that are not stacked, with what they are instead: no one place sees all their neurons.

    Example:
        >>> block = nn.ModuleDict({"experts": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
        >>> kept_otherwise(block)
        {'experts': '2 modules of their own, which tokens are dealt to one by one'}
    """
    found = {}
    for path, module in block.named_modules():
        own = [parameter for parameter in module.parameters(recurse=False) if parameter.dim() == 2]
        if isinstance(module, nn.ModuleList) and path.rpartition(".")[2] == "experts" and len(module) > 1:
            found[path] = f"{len(module)} modules of their own, which tokens are dealt to one by one"
        elif len(own) > 1 and "expert" in type(module).__name__.lower():
            found[path] = "the weights of all experts stand one below the other in matrices of two axes"
    return found


def rebuilds(replay: Replay, site: RoutedSite) -> bool:
    """Whether another block's experts are what those of the first of its shape were found to be."""
    module = replay.maps[site.module]
    seen = _seen(replay, site.module, module, site.down)
    return isinstance(seen, Seen) and _proven(site.module, module, site.down, seen) is not None


def _seen(replay: Replay, path: str, module: nn.Module, name: str) -> Seen | str | None:
    """The rows multiplied by a parameter; why they can't be told apart; or None where there are none."""
    rows: list[tuple[Tensor, Visits]] = []
    tap = Tap(module, name, (ROWS, TOKENS))
    handle = tap.add(lambda activations, visits: rows.append((activations.detach().clone(), visits)))
    try:
        outputs = replay.run().outputs.get(path)
    except SteeringError as error:
        return error.problem
    finally:
        handle.remove()
    return Seen(tuple(rows), outputs[0]) if rows and outputs else None


def _proven(path: str, module: nn.Module, name: str, seen: Seen) -> RoutedSite | None:
    with _brought(module):
        return _rebuilt_by(path, module, name, seen)


def _brought(module: nn.Module) -> AbstractContextManager[None]:
    """While inside, a module's own weights are in memory, also where accelerate has offloaded them."""
    if not hasattr(module, "_hf_hook"):
        return nullcontext()
    from accelerate.utils import align_module_device

    return cast(AbstractContextManager[None], align_module_device(module))


def _rebuilt_by(path: str, module: nn.Module, name: str, seen: Seen) -> RoutedSite | None:
    width = seen.rows[0][0].shape[-1]
    parameter = module.get_parameter(name).detach()
    if parameter.dim() == 2 and parameter.shape[0] % width:
        return None
    whole = parameter if parameter.dim() == 3 else parameter.unflatten(0, (-1, width))
    experts, *sizes = whole.shape
    if any(int(visits.experts.max()) >= experts for _, visits in seen.rows):
        return None
    for transposed in (False, True):
        hidden, neurons = reversed(sizes) if transposed else sizes
        if (neurons, hidden) != (width, seen.output.shape[-1]):
            continue
        weight = whole.mT if transposed else whole
        for bias in _biases(module, (experts, hidden)):
            if _is_rebuilt(weight, bias, seen):
                weighs_after = seen.rows[0][1].weights is not None
                return RoutedSite(path, name, experts, width, transposed, weighs_after)
    return None


def _biases(module: nn.Module, shape: tuple[int, int]) -> Iterator[Tensor | None]:
    yield None
    for parameter in module.parameters(recurse=False):
        if tuple(parameter.shape) == shape:
            yield parameter


def _is_rebuilt(weight: Tensor, bias: Tensor | None, seen: Seen) -> bool:
    """Whether the rows give the module's output; experts that are given every token are not summed in the module."""
    output = seen.output.detach().reshape(-1, seen.output.shape[-1]).double()
    total = torch.zeros_like(output)
    is_summed = len(output) == CELLS
    for activations, visits in seen.rows:
        for expert in visits.experts.unique().tolist():
            mine = (visits.experts == expert).nonzero()[:, 0]
            written = activations[mine].double() @ weight[expert].detach().double().T
            written = written if bias is None else written + bias[expert].detach().double()
            if visits.weights is not None:
                written = written * visits.weights[mine].detach().double()[:, None]
            total.index_add_(0, visits.cells[mine] if is_summed else mine, written)
    bound = _ROUNDINGS * torch.finfo(seen.output.dtype).eps * float(output.norm())
    return bool(output.any()) and float((total - output).norm()) <= bound
