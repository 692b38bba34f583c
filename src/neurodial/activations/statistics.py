"""Streamed statistics of activations by group: count, mean and squared deviations, in float64 where there is one.

Groups are, for example, the two sides of a contrast times ten folds. Memory is groups x neurons; it does not grow with
the number of prompts. Means and deviations are merged pairwise (Chan, Golub and LeVeque 1983), which stays accurate
where the textbook sum of squares cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.circuit.site import Neuron, Site, site_name, site_of


@dataclass(frozen=True)
class Moments:
    """Statistics of one group of prompts at one site.

    Attributes:
        count: number of prompts.
        mean: mean activation.
        squares: sum of squared deviations from the mean.
    """

    count: float
    mean: Float[Tensor, "*neuron"]
    squares: Float[Tensor, "*neuron"]


class GroupedMoments:
    """Collects statistics of every site by group. Its `add` is a sink for `collect`.

    Args:
        groups: the group of each prompt, 0 to `count - 1`.
        count: number of groups.
    """

    def __init__(self, groups: Sequence[int], count: int) -> None:
        self._groups = torch.tensor(list(groups), dtype=torch.long)
        self._count = count
        self._by_site: dict[Site, _Parts] = {}
        self._shapes: dict[Site, tuple[int, ...]] = {}
        self._latest: tuple[object, _Members] | None = None

    def add(self, site: Site, activations: Float[Tensor, "row *neuron"], rows: tuple[int, ...]) -> None:
        """Merge a batch of activations into the statistics of its site."""
        device = activations.device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._shapes[site] = tuple(activations.shape[1:])
        values = activations.to(dtype).flatten(1)
        members = self._members(rows, device, dtype)
        mean = (members.marks @ values) / members.sizes
        squares = members.marks @ (values - mean[members.groups]).square()
        new = (members.numbers, mean, squares)
        old = self._by_site.get(site)
        self._by_site[site] = new if old is None else _merged(old, new)

    def mean(self, site: Site, groups: Sequence[int]) -> Float[Tensor, "*neuron"]:
        """Mean activation of several groups taken together."""
        return self._flat_mean(site, groups).reshape(self._shapes[site])

    def _flat_mean(self, site: Site, groups: Sequence[int]) -> Float[Tensor, "flat"]:
        count, mean, _ = self._by_site[site]
        counts = _only(count, groups)
        return (counts / counts.sum().clamp(min=1)).to(mean) @ mean

    def moments(self, site: Site, groups: Sequence[int]) -> Moments:
        """Statistics of several groups taken together."""
        count, mean, squares = self._by_site[site]
        counts = _only(count, groups)
        middle = self._flat_mean(site, groups)
        spread = (counts > 0).to(squares) @ squares + counts.to(mean) @ (mean - middle).square()
        shape = self._shapes[site]
        return Moments(float(counts.sum()), middle.reshape(shape), spread.reshape(shape))

    def tensors(self) -> dict[str, Tensor]:
        """Counts, means and squares of every site by name, for a file."""
        parts = ("count", "mean", "squares")
        return {
            f"{site_name(site)}/{part}": tensor if part == "count" else tensor.reshape(-1, *self._shapes[site])
            for site, tensors in self._by_site.items()
            for part, tensor in zip(parts, tensors, strict=True)
        }

    def take(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Take the statistics that `tensors` gave, in place of its own."""
        for name in dict.fromkeys(key.partition("/")[0] for key in tensors):
            count, mean, squares = (tensors[f"{name}/{part}"] for part in ("count", "mean", "squares"))
            self._shapes[site_of(name)] = tuple(mean.shape[1:])
            self._by_site[site_of(name)] = (count, mean.to(device).flatten(1), squares.to(device).flatten(1))

    def _members(self, rows: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> _Members:
        """The group of each row of a batch; the same for every site of a batch."""
        key = (rows, device)
        if self._latest is None or self._latest[0] != key:
            groups = self._groups[list(rows)]
            marks = torch.nn.functional.one_hot(groups, self._count).T.to(dtype)
            count = marks.sum(dim=1)
            sizes = count.clamp(min=1)[:, None]
            self._latest = (key, _Members(groups.to(device), marks.to(device), sizes.to(device), count))
        return self._latest[1]


class VisitCounts:
    """On how many prompts of each group a token that was read went to each expert. Its `add` is a sink for `collect`.

    Args:
        groups: the group of each prompt, 0 to `count - 1`.
        count: number of groups.
    """

    def __init__(self, groups: Sequence[int], count: int) -> None:
        self._groups = torch.tensor(list(groups), dtype=torch.long)
        self._count = count
        self._by_site: dict[Site, Int[Tensor, "group expert"]] = {}

    def add(self, site: Site, activations: Float[Tensor, "row *neuron"], rows: tuple[int, ...]) -> None:
        """Count a batch; an expert whose neurons are all exactly 0 was not visited."""
        if not site.routed:
            return
        came = (activations != 0).any(dim=-1).long().cpu()
        if site not in self._by_site:
            self._by_site[site] = came.new_zeros(self._count, came.shape[1])
        self._by_site[site].index_add_(0, self._groups[list(rows)], came)

    def of(self, neuron: Neuron) -> tuple[int, ...] | None:
        """The counts of a neuron's expert, one for each group; None for a dense neuron."""
        if neuron.expert is None:
            return None
        return tuple(self._by_site[neuron.site][:, neuron.expert].tolist())


class _Members(NamedTuple):
    """The rows of a batch by group; the counts stay on the CPU, so that reading them waits for no device."""

    groups: Int[Tensor, "row"]
    marks: Float[Tensor, "group row"]
    sizes: Float[Tensor, "group one"]
    numbers: Float[Tensor, "group"]


_Parts = tuple[Tensor, Tensor, Tensor]


def _merged(first: _Parts, second: _Parts) -> _Parts:
    (n, mean, squares), (m, other, other_squares) = first, second
    total = (n + m).clamp(min=1)
    step = other - mean
    weight, both = ((share / total)[:, None].to(mean) for share in (m, n * m))
    merged = squares + other_squares + step.square() * both
    return n + m, mean + step * weight, merged


def _only(count: Float[Tensor, "group"], groups: Sequence[int]) -> Float[Tensor, "group"]:
    """The counts of the given groups, and 0 for the others."""
    counts = torch.zeros_like(count)
    counts[list(groups)] = count[list(groups)]
    return counts
