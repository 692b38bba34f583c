"""How well a vector is rebuilt: cosine, squared error of directions, and the share of variance explained.

Both vectors are taken at length 1. Then `error = |v - r|^2 = 2 (1 - cos)`, and against predicting the mean of many
activations `explained = 1 - error / mean's error`. Where all activations of a layer look alike (Gemma), the mean's
error is small and the cosine alone says nothing. A difference of activations has no such mean: its baseline is the zero
vector, with an error of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.errors import VerbaliserError


@dataclass(frozen=True)
class RebuiltScore:
    """How well one vector is rebuilt.

    Attributes:
        cosine: of the vector and its reconstruction.
        explained: share of variance explained; 0 is what the baseline reaches, 1 is perfect.
    """

    cosine: float
    explained: float

    @property
    def error(self) -> float:
        """Squared distance of the two directions.

        Example:
            >>> RebuiltScore(0.5, 0.1).error
            1.0
        """
        return 2 * (1 - self.cosine)


@dataclass(frozen=True, eq=False)
class ActivationReference:
    """Many activations of a layer: what a vector is held against.

    Attributes:
        vectors: as they are.
        name: where they are from.
    """

    vectors: Float[Tensor, "vector hidden"]
    name: str = ""

    def __post_init__(self) -> None:
        if self.vectors.shape[0] < 2 or not bool(torch.isfinite(self.vectors).all()):
            raise VerbaliserError(
                f"The reference holds {self.vectors.shape[0]} activations.", wanted="at least 2, all of them finite"
            )
        if self.mean_error <= 1e-9:
            raise VerbaliserError(
                "All activations of the reference point the same way.", wanted="texts that differ, and several tokens"
            )

    @property
    def mean(self) -> Float[Tensor, "hidden"]:
        """The mean of the activations' directions."""
        return directions(self.vectors).mean(dim=0)

    @property
    def mean_error(self) -> float:
        """The mean squared distance of directions from their mean."""
        return float((directions(self.vectors) - self.mean).square().sum(dim=1).mean())

    @property
    def length(self) -> float:
        """The median length of an activation."""
        return float(torch.linalg.vector_norm(self.vectors.float(), dim=1).median())

    def others(self, count: int, seed: int) -> Float[Tensor, "vector hidden"]:
        """Some of the activations, drawn at random."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.vectors), generator=generator)
        return self.vectors[order[:count]]


def directions(vectors: Float[Tensor, "*vector hidden"]) -> Float[Tensor, "*vector hidden"]:
    """The vectors at length 1, in float32."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def rebuilt_score(vector: Float[Tensor, "hidden"], rebuilt: Float[Tensor, "hidden"], baseline: float) -> RebuiltScore:
    """The scores of one reconstruction.

    Args:
        vector: what was put into words.
        rebuilt: what was made of the words.
        baseline: squared error of the best guess without words.

    Example:
        >>> rebuilt_score(torch.tensor([2.0, 0.0]), torch.tensor([3.0, 0.0]), 0.5)
        RebuiltScore(cosine=1.0, explained=1.0)
    """
    cosine = float(torch.nn.functional.cosine_similarity(vector.double(), rebuilt.double(), dim=0))
    return RebuiltScore(round(cosine, 9), round(1 - 2 * (1 - cosine) / baseline, 9))


def mean_score(scores: Sequence[RebuiltScore]) -> RebuiltScore | None:
    """The mean of several scores; None where there are none."""
    if not scores:
        return None
    count = len(scores)
    return RebuiltScore(sum(s.cosine for s in scores) / count, sum(s.explained for s in scores) / count)
