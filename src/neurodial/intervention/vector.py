"""Interventions on the residual stream: adding a vector, projecting a direction out (METHOD.md section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.errors import OptionError, SteeringError, UnknownNameError, near_names
from neurodial.intervention.base import Dial, Intervention, check_options, check_parts, dial_column, planned
from neurodial.intervention.plan import Add, HookPoint, Plan, Project, spread
from neurodial.intervention.when import When
from neurodial.model.subject import Subject

Where = Literal["writes", "blocks"]


@dataclass(frozen=True, eq=False)
class AddVector(Intervention):
    """Add `dial * alpha * vector` to the residual stream after one block (CAA, arXiv 2312.06681).

    Attributes:
        vector: (hidden,), for example the difference of means of the two sides of a contrast.
        layer: the block after which it is added.
        alpha: the strength at dial 1; a negative one removes the behaviour.
        dial: 0 unsteered, 1 the full addition.
        when: which tokens.

    Example:
        >>> import torch
        >>> AddVector(torch.ones(16), layer=0, alpha=-1.0).dial
        1.0
    """

    vector: Float[Tensor, "hidden"]
    layer: int
    alpha: float = 1.0
    dial: Dial = 1.0
    when: When = "all"

    def __post_init__(self) -> None:
        check_options(self.dial, self.when)
        _check_vector(self.vector)
        if not math.isfinite(self.alpha):
            raise OptionError(f"alpha is {self.alpha}.", wanted="a finite number")

    def compile(self, subject: Subject) -> Plan:
        """One addition at a block's output.

        Raises:
            SteeringError: the vector is of another width, or the layer does not exist.
        """
        _check_fits(self.vector, subject, self.layer)
        check_parts(self.when, subject)
        column = dial_column(self.dial)
        edit = Add(spread(column * self.alpha * self.vector.double().cpu(), self.when))
        return planned([(HookPoint("block", self.layer), edit)], self.dial, self.when)


@dataclass(frozen=True, eq=False)
class ProjectOut(Intervention):
    """Remove the component along a direction from the residual stream (arXiv 2406.11717).

    Attributes:
        direction: (hidden,); its length does not matter.
        where: `writes`, the embedding and everything that attention and the MLPs write, as the paper does;
            `blocks`, only the blocks' outputs, the weaker form that some tools use.
        alpha: the share of the component that dial 1 removes; 1 is all of it.
        dial: 0 unsteered, 1 the share `alpha` removed.
        when: which tokens.

    Example:
        >>> import torch
        >>> ProjectOut(torch.ones(16)).where
        'writes'
    """

    direction: Float[Tensor, "hidden"]
    where: Where = "writes"
    alpha: float = 1.0
    dial: Dial = 1.0
    when: When = "all"

    def __post_init__(self) -> None:
        check_options(self.dial, self.when)
        _check_vector(self.direction)
        if not math.isfinite(self.alpha):
            raise OptionError(f"alpha is {self.alpha}.", wanted="a finite number")
        if float(self.direction.norm()) == 0:
            raise OptionError("The direction is zero.", wanted="a vector of some length")
        if self.where not in Where.__args__:  # type: ignore[attr-defined]
            raise UnknownNameError(f"`where` is {self.where!r}.", fix=near_names(str(self.where), ("writes", "blocks")))

    def compile(self, subject: Subject) -> Plan:
        """A projection at every point that `where` names.

        Raises:
            SteeringError: the direction is of another width.
        """
        _check_fits(self.direction, subject, 0)
        check_parts(self.when, subject)
        column = dial_column(self.dial)
        unit = self.direction.double().cpu()
        unit = (unit / unit.norm()).expand(len(column), -1)
        edit = Project(spread(unit, "all"), spread(column * self.alpha, self.when))
        layers = range(subject.layers)
        if self.where == "blocks":
            points = [HookPoint("block", layer) for layer in layers]
        else:
            sublayers: tuple[Literal["attention", "mlp"], ...] = ("attention", "mlp")
            points = [
                HookPoint("embedding", 0),
                *(HookPoint(sublayer, layer) for layer in layers for sublayer in sublayers),
            ]
        return planned([(point, edit) for point in points], self.dial, self.when)


def _check_vector(vector: Tensor) -> None:
    if vector.dim() != 1 or not bool(torch.isfinite(vector).all()):
        raise OptionError(f"The vector has shape {tuple(vector.shape)}.", wanted="one axis of finite numbers")


def _check_fits(vector: Tensor, subject: Subject, layer: int) -> None:
    if vector.numel() != subject.hidden_size:
        raise SteeringError(
            f"The vector has {vector.numel()} numbers.", wanted=f"{subject.hidden_size}, the width of {subject.label}"
        )
    if not 0 <= layer < subject.layers:
        raise SteeringError(f"{subject.label} has no layer {layer}.", wanted=f"0 to {subject.layers - 1}")
