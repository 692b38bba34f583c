"""The linearised backward pass, for the length of a `with` block (arXiv 2601.22594, 2508.21258).

1. Norms: `y = scale * x * c` with the coefficient `c = 1 / sqrt(mean(x^2) + epsilon)` a constant.
2. Activations: `y = x * r` with the ratio `r = y / x` a constant; act'(0) at 0.
3. Gate x up: half the gradient to each factor.
4. Attention: queries and keys get no gradient, so patterns are constants.
5. The soft-cap of the final logits: as 2 (`target_logits` in `relevance.py`).

The forward pass keeps every bit. `tracing/rules.py` names the rule of each part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

import torch
from torch import Tensor, nn

from neurodial.errors import ModelError, SteeringError
from neurodial.model.gradients import frozen
from neurodial.model.hooks import Adjoint, Handle, installed, on_derivative, on_gradient, refuse_compiled
from neurodial.model.parts import (
    Norm,
    activations,
    query_key_norms,
    query_keys,
    refuse_untraceable,
    residual_norms,
    ups,
)
from neurodial.model.subject import Subject
from neurodial.tracing.rules import Rules

_linear: WeakSet[nn.Module] = WeakSet()


@contextmanager
def linearized(subject: Subject, rules: Rules | None = None) -> Iterator[None]:
    """Inside the block, gradients follow the rules; values do not change, and weights collect no gradient.

    Afterwards, also after an error, hooks and every parameter's `requires_grad` are as they were.

    Raises:
        ModelError: the model lacks a part that the rules need, or an activation is not 0 at 0.
        SteeringError: the model is already compiled, or already linearised.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject = tiny_subject()
        >>> with linearized(subject):
        ...     any(parameter.requires_grad for parameter in subject.model.parameters())
        False
    """
    chosen = rules or Rules()
    refuse_compiled(subject)
    refuse_untraceable(subject)
    if subject.model in _linear:
        raise SteeringError(
            f"{subject.label} is linearised already: one set of rules would hide the other.",
            wanted="one `with linearized(...)` block at a time",
        )
    _linear.add(subject.model)
    try:
        with frozen(subject), installed(lambda handles: handles.extend(_handles(subject, chosen))):
            yield
    finally:
        _linear.discard(subject.model)


def _handles(subject: Subject, rules: Rules) -> Iterator[Handle]:
    if rules.norm:  # 1
        norms = [*residual_norms(subject), *([] if rules.attention else query_key_norms(subject))]
        for norm in norms:
            yield on_derivative(norm.module, _constant_coefficient(norm))
    if rules.activation:  # 2
        for module in activations(subject):
            yield on_derivative(module, _constant_ratio(module))
    if rules.product:  # 3
        yield from _halved(subject)
    if rules.attention:  # 4
        for module, values in query_keys(subject):
            yield on_gradient(module, None if values is None else _scaled(values))


def _constant_coefficient(norm: Norm) -> Callable[[Tensor, Tensor], Adjoint]:
    def rule(inputs: Tensor, output: Tensor) -> Adjoint:
        del output
        wide = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
        if norm.is_centred:
            wide = wide - wide.mean(dim=-1, keepdim=True)
        coefficient = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + norm.epsilon)
        if norm.scale is not None:
            coefficient = coefficient * norm.scale.to(coefficient.device)

        def adjoint(gradient: Tensor) -> Tensor:
            scaled = gradient * coefficient
            if norm.is_centred:
                scaled = scaled - scaled.mean(dim=-1, keepdim=True)
            return scaled.to(gradient.dtype)

        return adjoint

    return rule


def _constant_ratio(module: nn.Module) -> Callable[[Tensor, Tensor], Adjoint]:
    at_zero = _slope_at_zero(module)

    def rule(inputs: Tensor, output: Tensor) -> Adjoint:
        return _multiplied(ratio(inputs, output, at_zero))

    return rule


def ratio(inputs: Tensor, output: Tensor, at_zero: float) -> Tensor:
    """Output over input; where the input is 0, or too small to divide by, `at_zero`."""
    tiny = inputs.abs() < torch.finfo(inputs.dtype).tiny
    safe = torch.where(tiny, torch.ones_like(inputs), inputs)
    return torch.where(tiny, torch.full_like(inputs, at_zero), output / safe)


def _slope_at_zero(module: nn.Module) -> float:
    with torch.enable_grad():
        zero = torch.zeros(1, requires_grad=True)
        value = module.forward(zero)
        (slope,) = torch.autograd.grad(value.sum(), zero)
    if float(value.detach()) != 0:
        raise ModelError(
            f"The activation {type(module).__name__} gives {float(value.detach()):g} at 0.",
            wanted="an activation that is 0 at 0, or output / input is no finite ratio",
            fix="Turn the activation rule off.",
        )
    return float(slope)


def _halved(subject: Subject) -> Iterator[Handle]:
    """Half the gradient at the output of the activation, and at that of the up map (at its up half if fused)."""
    gated = [site.is_gated for _, site in subject.layout.sites]
    for module in itertools.compress(activations(subject), gated):
        yield on_gradient(module, lambda gradient: gradient / 2)
    for module, mask in ups(subject):
        share = torch.tensor(0.5) if mask is None else 1 - mask / 2
        yield on_gradient(module, _scaled(share))


def _scaled(share: Tensor) -> Adjoint:
    return lambda gradient: gradient * share.to(gradient.device, gradient.dtype)


def _multiplied(factor: Tensor) -> Adjoint:
    return lambda gradient: gradient * factor
