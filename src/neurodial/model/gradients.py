"""Gradients at the neurons of a model whose parameters stay frozen.

1. Parameters need no gradient for the length of a block, so a backward pass computes those of activations alone and
   stores nothing on the model.
2. At each site the activation is read before any steering, and its gradient after it. Their product, summed over the
   tokens, is therefore the slope in the neuron's multiplier, under steering too (where the multiplier may be 0).
3. Memory is that of one micro-batch: each site's product is passed on as soon as the backward pass reaches it.
   Offloaded weights are not kept for the way back, but read again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neurodial.circuit.site import Site
from neurodial.errors import GradientError
from neurodial.model.experts import Visits
from neurodial.model.find_layout import ordinary_tokens
from neurodial.model.head import at_least_float32, hidden_states
from neurodial.model.hooks import Edit, Handle, installed, on_block_output, on_embedding, on_experts, on_neurons
from neurodial.model.micro_batch import micro_batch_tokens
from neurodial.model.subject import Subject
from neurodial.model.weights_read_again import weights_read_again

GRADIENT_BUDGET = 1024
"""Tokens of one micro-batch of a backward pass on a CPU; it keeps every layer's activations."""

Take = Callable[[Site, Float[Tensor, "row *neuron"]], None]
"""Called once per site in each backward pass with the slope of each row's value in each neuron's multiplier."""


@contextmanager
def multiplier_slopes(subject: Subject, take: Take) -> Iterator[None]:
    """Give `take` the slopes in every neuron's multiplier at each backward pass inside the block.

    The slope of a row's value in the multiplier of neuron j is `sum over tokens of a_j * d value / d a_j`, with the a_j
    of before steering; it is summed in float32 or better. A routed expert's neuron has it from the tokens that went to
    the expert, routing weights included; that another multiplier would send a token elsewhere is not in it.

    Raises:
        GradientError: a quantised map of the model has no backward pass.
    """
    refuse_cutting(subject)

    def install(handles: list[Handle]) -> None:
        for site in subject.sites:
            if site.routed:
                slopes = _ExpertSlopes(subject.shape(site), partial(take, site))
                handles.append(on_experts(subject, site.layer, slopes.remember, first=True))
                handles.append(on_experts(subject, site.layer, slopes.watch, done=slopes.done))
            else:
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
        with torch.enable_grad(), weights_read_again(subject.model):
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


def refuse_cutting(subject: Subject) -> None:
    """Refuse a model with a quantised map that gives no gradient back: slopes of earlier layers would lack a part.

    One pass of a few tokens; models without quantised maps are not run.

    Raises:
        GradientError: names the first such map.
    """
    maps = subject.quantised_maps
    if not maps:
        return
    cutting: list[str] = []

    def looked_at(path: str, _: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if given and given[0].requires_grad and not output.requires_grad:
            cutting.append(path)

    def install(handles: list[Handle]) -> None:
        handles.append(on_embedding(subject, lambda hidden: hidden.detach().requires_grad_()))
        handles.extend(module.register_forward_hook(partial(looked_at, path)) for path, module in maps.items())

    with frozen(subject), installed(install):
        hidden_states(subject, ordinary_tokens(subject.model))
    if cutting:
        raise without_gradients(subject, f"the quantised map {cutting[0]} has no backward pass")


def without_gradients(subject: Subject, reason: str) -> GradientError:
    """The error for a model that gives no gradients."""
    return GradientError(
        f"{subject.label} gives no gradients: {reason.rstrip('.')}.",
        wanted="a model whose parts all have a backward pass, as unquantised ones do",
        fix="Load it unquantised (a GGUF file is dequantised on loading), or use method cna, which needs no gradients.",
    )


class Tape:
    """Keeps the tensors that a pass goes through, for their gradients; for one pass at a time. Dense MLPs only."""

    def __init__(self) -> None:
        self.hidden: list[Tensor] = []
        self.neurons: list[Tensor] = []

    def install(self, subject: Subject, handles: list[Handle]) -> None:
        """Install the hooks; the embedding becomes the leaf of the graph."""
        handles.append(on_embedding(subject, self._begin))
        for site in subject.dense_sites:
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


class _ExpertSlopes:
    """Slopes at routed experts: a pass gives several pieces of visits; when a gradient came to all, they are taken."""

    def __init__(self, shape: tuple[int, ...], take: Callable[[Tensor], None]) -> None:
        self._shape, self._take = shape, take
        self._raw: list[Tensor] = []
        self._pieces = 0

    def remember(self, neurons: Tensor, visits: Visits) -> None:
        """Keep the activations of some visits of before steering."""
        del visits
        self._raw[:] = [neurons.detach()]

    def watch(self, neurons: Tensor, visits: Visits) -> Tensor:
        """Watch the gradient of some visits."""
        activation = self._raw.pop()
        if not torch.is_grad_enabled():
            return neurons
        watched = neurons if neurons.requires_grad else neurons.detach().requires_grad_(True)
        dtype = at_least_float32(watched.dtype)
        if self._pieces == 0:
            self._pass = _Pass()
        self._pieces += 1
        current = self._pass

        def reached(gradient: Tensor) -> None:
            slopes = activation.to(dtype) * gradient.to(dtype)
            if current.sums is None:
                current.sums = slopes.new_zeros(visits.shape[0], *self._shape)
            current.sums.index_put_((visits.rows, visits.experts), slopes, accumulate=True)
            current.reached += 1
            if current.reached == current.pieces:
                sums, current.sums, current.reached = current.sums, None, 0  # the graph may be used again
                self._take(sums)

        watched.register_hook(reached)
        return watched

    def done(self) -> None:
        """The pass is over: so many pieces it had."""
        if self._pieces:
            self._pass.pieces, self._pieces = self._pieces, 0


@dataclass
class _Pass:
    """One pass through an experts module: slopes are held from the first piece's gradient to the last one's."""

    sums: Tensor | None = None
    pieces: int = 0
    reached: int = 0


def _keep(into: list[Tensor]) -> Edit:
    def keep(tensor: Tensor) -> Tensor:
        into.append(tensor)
        return tensor

    return keep
