"""Streamed statistics of activations by group: count, mean and squared deviations, in float64 where there is one.

Groups are, for example, the two sides of a contrast times ten folds. Memory is groups x neurons, whatever the
number of prompts. Means and deviations are merged pairwise (Chan, Golub and LeVeque 1983), which stays accurate
where the textbook sum of squares cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.circuit.site import Site


@dataclass(frozen=True)
class Moments:
    """Statistics of one group of prompts at one site.

    Attributes:
        count: number of prompts.
        mean: mean activation.
        squares: sum of squared deviations from the mean.
    """

    count: float
    mean: Float[Tensor, "neuron"]
    squares: Float[Tensor, "neuron"]

    @property
    def variance(self) -> Float[Tensor, "neuron"]:
        """Unbiased variance; zero for a single prompt."""
        return self.squares / max(1.0, self.count - 1)


class GroupedMoments:
    """Collects statistics of every site by group. Its `add` is a sink for `collect`.

    Args:
        groups: the group of each prompt, 0 to `count - 1`.
        count: number of groups.
    """

    def __init__(self, groups: Sequence[int], count: int) -> None:
        self._groups = torch.tensor(list(groups), dtype=torch.long)
        self._count = count
        self._by_site: dict[Site, tuple[Tensor, Tensor, Tensor]] = {}

    def add(self, site: Site, activations: Float[Tensor, "row neuron"], rows: tuple[int, ...]) -> None:
        """Merge a batch of activations into the statistics of its site."""
        device = activations.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        values = activations.to(dtype)
        groups = self._groups[list(rows)].to(device)
        member = torch.nn.functional.one_hot(groups, self._count).T.to(dtype)
        count = member.sum(dim=1)
        mean = (member @ values) / count.clamp(min=1)[:, None]
        squares = member @ (values - mean[groups]).square()
        old = self._by_site.get(site)
        self._by_site[site] = (count, mean, squares) if old is None else _merged(old, (count, mean, squares))

    def moments(self, site: Site, groups: Sequence[int]) -> Moments:
        """Statistics of several groups taken together."""
        count, mean, squares = self._by_site[site]
        chosen: Int[Tensor, "group"] = torch.tensor(list(groups), device=count.device)
        part = count[chosen]
        total = part.sum()
        middle = (part[:, None] * mean[chosen]).sum(dim=0) / total.clamp(min=1)
        spread = squares[chosen].sum(dim=0) + (part[:, None] * (mean[chosen] - middle).square()).sum(dim=0)
        return Moments(float(total), middle, spread)


_Parts = tuple[Tensor, Tensor, Tensor]


def _merged(first: _Parts, second: _Parts) -> _Parts:
    (n, mean, squares), (m, other, other_squares) = first, second
    total = (n + m).clamp(min=1)
    step = other - mean
    weight = (m / total)[:, None]
    merged = squares + other_squares + step.square() * (n * m / total)[:, None]
    return n + m, mean + step * weight, merged
