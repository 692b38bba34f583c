"""Methods of the residual stream as paths: one for each layer, and for each token where a direction is read at several.

| method | strength | at a strength |
|---|---|---|
| activation addition (CAA) | 0.05 to 4 | `strength x v_L` subtracted after block L (to induce: added) |
| directional ablation | 0.02 to 1.5 | that share of the component along `v_L` removed from every write |
| the public code's CAA | 1 | `v_L` of every MLP added, with its plus sign |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from neurodial.intervention.base import Intervention
from neurodial.intervention.vector import AddVector, ProjectOut, Where
from neurodial.intervention.when import When
from neurodial.methods.vectors.differences import (
    AddEverywhere,
    answer_vectors,
    direction_vectors,
    last_token_vectors,
    mlp_vectors,
)
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import Behaviour, Contrast, Direction
from neurodial.strength.path import StrengthPath

ADDED = (0.05, 4.0)
"""Strengths of activation addition: multiples of the difference of means."""
PROJECTED = (0.02, 1.5)
"""Strengths of directional ablation: above 1 the component changes its sign."""

Reading = Literal["last-token", "answers"]


@dataclass(frozen=True)
class VectorInputs:
    """The inputs for vectors.

    Attributes:
        subject: the model.
        contrast: discovery prompts.
        behaviour: whose answers are used for prompts without any.
        direction: whether the behaviour is to be removed or induced.
        layers: which may be chosen; None for all.
        when: which tokens are changed.
    """

    subject: Subject
    contrast: Contrast
    behaviour: Behaviour
    direction: Direction = "remove"
    layers: tuple[int, ...] | None = None
    when: When = "all"

    def allowed(self, layer: int) -> bool:
        """Whether a layer may be chosen."""
        return self.layers is None or layer in self.layers


def addition_paths(inputs: VectorInputs, reading: Reading = "last-token") -> list[StrengthPath]:
    """Activation addition (arXiv 2312.06681), one path for each layer.

    Raises:
        PromptError: the answer reading lacks answers, or the tokenizer has no chat template.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> inputs = VectorInputs(tiny_subject(), Contrast.of(["a", "b"], ["c"]), Behaviour("mine"))
        >>> [path.details["layer"] for path in addition_paths(inputs)]
        [0, 1]
    """
    subject = inputs.subject
    if reading == "last-token":
        vectors = last_token_vectors(subject, inputs.contrast)[0]
    else:
        vectors = answer_vectors(subject, inputs.contrast, answers=inputs.behaviour.answers)
    away = -1.0 if inputs.direction == "remove" else 1.0
    return [
        StrengthPath(
            *ADDED,
            partial(_added, vectors[layer], layer, away, inputs.when),
            {"layer": layer, "norm": float(vectors[layer].norm())},
        )
        for layer in range(subject.layers)
        if inputs.allowed(layer)
    ]


def ablation_paths(inputs: VectorInputs, where: Where = "writes") -> list[StrengthPath]:
    """Directional ablation (arXiv 2406.11717), one path for each layer and token that a direction is read at."""
    return [
        StrengthPath(
            *PROJECTED,
            partial(_projected, vector, where, inputs.when),
            {"layer": layer, "token": offset, "where": where},
        )
        for (layer, offset), vector in direction_vectors(inputs.subject, inputs.contrast).items()
        if inputs.allowed(layer)
    ]


def published_paths(inputs: VectorInputs) -> list[StrengthPath]:
    """What the public code beside arXiv 2605.12290 calls CAA; it has one strength."""
    vectors = mlp_vectors(inputs.subject, inputs.contrast)
    at: Callable[[float], Intervention] = partial(_everywhere, vectors, inputs.when)
    return [StrengthPath(1.0, 1.0, at, {"layers": "all", "sign": "plus, as published"})]


def _added(vector: Float[Tensor, "hidden"], layer: int, away: float, when: When, strength: float) -> Intervention:
    return AddVector(vector, layer, away * strength, when=when)


def _projected(vector: Float[Tensor, "hidden"], where: Where, when: When, strength: float) -> Intervention:
    return ProjectOut(vector, where, strength, when=when)


def _everywhere(vectors: Float[Tensor, "layer hidden"], when: When, strength: float) -> Intervention:
    return AddEverywhere(vectors, alpha=strength, when=when)
