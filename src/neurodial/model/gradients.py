"""Gradients at the neurons of a model whose parameters stay frozen.

1. Parameters need no gradient for the length of a block, so a backward pass computes those of activations alone and
   stores nothing on the model.
2. At each site the activation is read before any steering, and its gradient after it. Their product, summed over the
   tokens, is therefore the slope in the neuron's multiplier, under steering too (where the multiplier may be 0).
3. Memory is that of one micro-batch: each site's product is passed on as soon as the backward pass reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.circuit.site import Site
from neurodial.errors import GradientError
from neurodial.model.head import at_least_float32
from neurodial.model.hooks import Edit, Handle, installed, on_block_output, on_embedding, on_neurons
from neurodial.model.micro_batch import micro_batch_tokens
from neurodial.model.subject import Subject

GRADIENT_BUDGET = 1024
"""Tokens of one micro-batch of a backward pass on a CPU; it keeps every layer's activations."""

Take = Callable[[Site, Float[Tensor, "row neuron"]], None]
"""Called once per site in each backward pass with the slope of each row's value in each neuron's multiplier."""


@contextmanager
def multiplier_slopes(subject: Subject, take: Take) -> Iterator[None]:
    """Give `take` the slopes in every neuron's multiplier at each backward pass inside the block.

    The slope of a row's value in the multiplier of neuron j is `sum over tokens of a_j * d value / d a_j`, with the a_j
    of before steering; it is summed in float32 or better.
    """

    def install(handles: list[Handle]) -> None:
        for site in subject.sites:
            raw: list[Tensor] = []
            handles.append(on_neurons(subject, site, _remember(raw), first=True))
            handles.append(on_neurons(subject, site, _watch(site, raw, take)))

    with frozen(subject), installed(install):
        yield


def gradient_tokens(subject: Subject) -> int:
    """Tokens of one micro-batch of a backward pass, padding included: as many as fit the device's memory."""
    return micro_batch_tokens(subject, GRADIENT_BUDGET)


@contextmanager
def frozen(subject: Subject) -> Iterator[None]:
    """Inside the block no parameter needs a gradient, activations may; afterwards everything is restored."""
    trained = [parameter for parameter in subject.model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def backward(
    subject: Subject,
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor] | None = None,
    *,
    keep: bool = False,
) -> None:
    """A backward pass from `outputs`; the slopes go to the `take` of `multiplier_slopes`.

    Args:
        subject: the model, for the error.
        outputs: where the pass begins.
        gradients: of the outputs; ones where they are single numbers.
        keep: keep the graph for another pass.

    Raises:
        GradientError: the model cut the graph: some of its kernels have no backward pass.
    """
    try:
        torch.autograd.backward(outputs, gradients, retain_graph=keep)
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
            raise
        raise without_gradients(subject, str(error).splitlines()[0]) from error


def without_gradients(subject: Subject, reason: str) -> GradientError:
    """The error for a model that gives no gradients."""
    return GradientError(
        f"{subject.label} gives no gradients: {reason.rstrip('.')}.",
        wanted="a model whose parts all have a backward pass, as unquantised ones do",
        fix="Load it unquantised (a GGUF file is dequantised on loading), or use method cna, which needs no gradients.",
    )


class Tape:
    """Keeps the tensors that a pass goes through, for their gradients; for one pass at a time."""

    def __init__(self) -> None:
        self.hidden: list[Tensor] = []
        self.neurons: list[Tensor] = []

    def install(self, subject: Subject, handles: list[Handle]) -> None:
        """Install the hooks; the embedding becomes the leaf of the graph."""
        handles.append(on_embedding(subject, self._begin))
        for site in subject.sites:
            handles.append(on_neurons(subject, site, _keep(self.neurons)))
            handles.append(on_block_output(subject, site.layer, _keep(self.hidden)))

    def _begin(self, hidden: Tensor) -> Tensor:
        self.neurons.clear()
        self.hidden[:] = [hidden.detach().requires_grad_()]
        return self.hidden[0]


def gradients(subject: Subject, value: Tensor, tensors: Sequence[Tensor], *, retain: bool = False) -> list[Tensor]:
    """Gradients of a number by tensors; with `retain` the graph can be used again.

    Raises:
        GradientError: no gradient reaches one of them.
    """
    if not value.requires_grad:
        raise without_gradients(subject, "none leaves its output")
    slopes = torch.autograd.grad(value, list(tensors), allow_unused=True, retain_graph=retain)
    if any(gradient is None for gradient in slopes):
        raise without_gradients(subject, "none reaches some of its layers")
    return list(slopes)


def _remember(raw: list[Tensor]) -> Callable[[Tensor], None]:
    def read(neurons: Tensor) -> None:
        raw[:] = [neurons.detach()]

    return read


def _watch(site: Site, raw: list[Tensor], take: Take) -> Callable[[Tensor], Tensor]:
    def watch(neurons: Tensor) -> Tensor:
        activation = raw.pop()
        if not torch.is_grad_enabled():
            return neurons
        watched = neurons if neurons.requires_grad else neurons.detach().requires_grad_(True)
        dtype = at_least_float32(watched.dtype)

        def reached(gradient: Tensor) -> None:
            take(site, (activation.to(dtype) * gradient.to(dtype)).sum(dim=1))

        watched.register_hook(reached)
        return watched

    return watch


def _keep(into: list[Tensor]) -> Edit:
    def keep(tensor: Tensor) -> Tensor:
        into.append(tensor)
        return tensor

    return keep
