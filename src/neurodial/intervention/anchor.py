"""Pinning a neuron to a value that follows the context (arXiv 2605.08513).

1. `v`: the activation of largest size over the tokens that the chat template puts after the instruction, before any
   change; read for each row in the pass of its prompt, and kept for the tokens generated after it.
2. Target: `k * m* * v / D - D`, never beyond `m*`; `D = a_H - a_h` is the gap between the sides' means.
3. Where `m*` is negative the neuron becomes the smaller of activation and target, where it is positive the larger.

`v = 0` means that the context does not drive the neuron: there is nothing to anchor to, and the row is not changed. The
paper does not treat this case. For the other sign of D the target is mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.circuit.site import Neuron
from neurodial.errors import OptionError, SteeringError
from neurodial.intervention.scale import check_neurons
from neurodial.model.hooks import Handle, installed, on_forward, on_neurons, refuse_compiled
from neurodial.model.subject import Subject


@dataclass(frozen=True)
class Anchor:
    """One neuron, pinned according to the context.

    Attributes:
        neuron: which.
        limit: `m*`, the farthest value; not 0.
        gap: `D`, the neuron's mean on P+ less that on P-; not 0.
        width: how many tokens at the prompt's end are read.
        strength: `k`.

    Raises:
        OptionError: a number is 0, not finite, or the limit has the gap's sign: it would strengthen the behaviour.

    Example:
        >>> Anchor(Neuron(0, None, 3), limit=-4.0, gap=2.0, width=1).strength
        1.0
    """

    neuron: Neuron
    limit: float
    gap: float
    width: int
    strength: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.limit, self.gap, self.strength)
        if not all(map(math.isfinite, numbers)) or 0 in numbers or self.width < 1:
            raise OptionError(
                f"limit {self.limit}, gap {self.gap}, strength {self.strength}, width {self.width}.",
                wanted="finite numbers that are not 0, and a width of at least 1",
            )
        if self.limit * self.gap > 0:
            raise OptionError(
                f"The limit {self.limit:g} has the sign of the gap {self.gap:g}.",
                wanted="a limit on the other side of 0, against the behaviour",
            )

    def pinned(
        self, activations: Float[Tensor, "row token"], extreme: Float[Tensor, "row"]
    ) -> Float[Tensor, "row token"]:
        """The neuron's new activations (2, 3)."""
        size = abs(self.gap)
        target = self.strength * self.limit * extreme.abs() / size + math.copysign(size, self.limit)
        downwards = self.limit < 0
        target = target.clamp(min=self.limit) if downwards else target.clamp(max=self.limit)
        moved = (
            torch.minimum(activations, target[:, None]) if downwards else torch.maximum(activations, target[:, None])
        )
        return torch.where(extreme[:, None] == 0, activations, moved)


@contextmanager
def anchored(subject: Subject, anchor: Anchor) -> Iterator[None]:
    """Pin a neuron by its anchor inside the block.

    A pass that fills an empty cache is a prompt. Its rows must end together: padded on the left, as `generate` does,
    or not at all.

    Raises:
        SteeringError: the model has no such neuron or is compiled; a prompt is shorter than the width; or generation
            continues with another number of rows than the prompts had.

    Example:
        >>> from neurodial.generation.generate import Decoding, generate
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject = tiny_subject()
        >>> with anchored(subject, Anchor(Neuron(0, None, 3), limit=-4.0, gap=2.0, width=1)):
        ...     [answer] = generate(subject, ["Hello"], decoding=Decoding(max_new_tokens=2))
        >>> len(answer.tokens) <= 2
        True
    """
    refuse_compiled(subject)
    check_neurons(frozenset([anchor.neuron]), subject)
    memory = _Memory(anchor)

    def install(handles: list[Handle]) -> None:
        handles.append(on_forward(subject, memory.look))
        handles.append(on_neurons(subject, anchor.neuron.site, memory.edit))

    with installed(install):
        yield


class _Memory:
    """The extreme activations of the rows, from their prompts."""

    def __init__(self, anchor: Anchor) -> None:
        self._anchor = anchor
        self._is_prompt = True
        self._extreme: Tensor | None = None

    def look(self, rows: int, tokens: int, cached: int) -> None:
        """Note the shape of the pass that begins."""
        self._is_prompt = cached == 0
        if self._is_prompt and tokens < self._anchor.width:
            raise SteeringError(
                f"A prompt of {tokens} tokens came.", wanted=f"at least {self._anchor.width}, those the anchor reads"
            )
        if not self._is_prompt and (self._extreme is None or len(self._extreme) != rows):
            raise SteeringError(
                f"{rows} rows continue from a cache whose prompts the anchor has not seen.",
                wanted="prompts run inside the block, in the same rows",
            )

    def edit(self, neurons: Tensor) -> Tensor:
        """The neurons with the one pinned."""
        index = self._anchor.neuron.index
        activations = neurons[..., index]
        if self._is_prompt:
            last = activations[:, -self._anchor.width :]
            self._extreme = last.gather(1, last.abs().argmax(dim=1, keepdim=True))[:, 0]
        assert self._extreme is not None  # noqa: S101  # look() refuses passes that would leave it unset
        changed = neurons.clone()
        changed[..., index] = self._anchor.pinned(activations, self._extreme)
        return changed
