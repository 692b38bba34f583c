"""When a circuit acts: only on prompts on which a reading of the unsteered model passes a threshold. Torch-free.

1. A reading is `sum_k w_k h_k` at the last token of the rendered prompt, in the unsteered model: h are activations of
   neurons, or the residual stream after one block.
2. `mean`: each neuron's weight is the sign of its difference between the sides of a contrast, over the number of
   neurons. `projection`: the weights are the differences themselves, to length one. `direction`: the same of the
   residual stream.
3. The condition holds where the reading is above the threshold, which was set on development prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitError

ReadingKind = Literal["mean", "projection", "direction"]
"""What a condition reads."""


@dataclass(frozen=True)
class SideRate:
    """On how many prompts of one side a condition holds.

    Example:
        >>> SideRate(3, 4).share
        0.75
    """

    holds: int
    prompts: int

    @property
    def share(self) -> float:
        """The share of the prompts."""
        return self.holds / self.prompts


@dataclass(frozen=True)
class PromptCondition:
    """A reading of the prompt, and the threshold that it must pass.

    Attributes:
        reading: what is read.
        threshold: the condition holds above it.
        weights: one for each neuron, or for each number of the residual stream.
        positive: on how many development prompts of the side that it is for it holds.
        negative: the same of the other side.
        false_positive_rate: the share of the other side that was asked for, at most.
        neurons: those that are read; none for `direction`.
        layer: the block after which the residual stream is read; None where neurons are.
        prompts: the prompts that it was made with: hashes and counts.

    Raises:
        CircuitError: it reads both neurons and a layer, or neither, or numbers are not finite.

    Example:
        >>> condition = PromptCondition(
        ...     "mean", 0.5, (1.0,), SideRate(9, 9), SideRate(0, 9), 0.01, neurons=(Neuron(0, None, 3),)
        ... )
        >>> condition.text
        'mean of 1 neuron above 0.5; development prompts: 9 of 9 of its side, 0 of 9 of the other'
    """

    reading: ReadingKind
    threshold: float
    weights: tuple[float, ...]
    positive: SideRate
    negative: SideRate
    false_positive_rate: float
    neurons: tuple[Neuron, ...] = ()
    layer: int | None = None
    prompts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        reads_layer = self.layer is not None and self.layer >= 0 and not self.neurons and bool(self.weights)
        reads_neurons = self.layer is None and 0 < len(self.neurons) == len(self.weights)
        if not reads_layer and not reads_neurons:
            raise CircuitError(
                f"A condition has {len(self.weights)} weights, {len(self.neurons)} neurons, layer {self.layer}.",
                wanted="a weight for each neuron, or weights of one layer",
            )
        if not all(map(math.isfinite, (self.threshold, *self.weights))):
            raise CircuitError("A number of the condition is not finite.", wanted="finite weights and threshold")

    @cached_property
    def _hash(self) -> int:
        return hash((self.reading, self.threshold, self.weights, self.neurons, self.layer))

    def __hash__(self) -> int:  # asked for at every token, so computed once
        return self._hash

    @property
    def text(self) -> str:
        """What it reads, in words, and on which development prompts it holds."""
        count = len(self.neurons)
        what = f"of {count} neuron{'' if count == 1 else 's'}" if count else f"after block {self.layer}"
        sides = (self.positive, self.negative)
        its, other = (f"{side.holds} of {side.prompts}" for side in sides)
        return (
            f"{self.reading} {what} above {self.threshold:.4g}; development prompts: {its} of its side, "
            f"{other} of the other"
        )
