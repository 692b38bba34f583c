"""Histograms of numbers whose range is not known beforehand, in memory that does not grow.

Bins lie evenly from -range to range, range a power of two. A number beyond it doubles the range: each two bins become
one, so no count is lost. The areas under ROC curves are taken from the counts, ties within a bin as one half; `tied`
says how far the true area may lie from that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

BINS = 512
_SMALLEST = 2.0**-30


@dataclass
class Histograms:
    """One histogram for each channel and side.

    Attributes:
        counts: how many numbers lie in each bin.
        reach: the range of each channel.

    Example:
        >>> histograms = Histograms.empty(1, 2)
        >>> histograms.add(torch.tensor([[0.1], [3.0]]), torch.tensor([0, 1]))
        >>> histograms.reach.tolist(), histograms.counts.sum(dim=2).tolist(), histograms.auroc(1, 0)[0].tolist()
        ([4.0], [[1, 1]], [1.0])
    """

    counts: Int64[Tensor, "channel side bin"]
    reach: Float64[Tensor, "channel"]

    @classmethod
    def empty(cls, channels: int, sides: int) -> Histograms:
        """Histograms without any numbers."""
        counts = torch.zeros(channels, sides, BINS, dtype=torch.int64)
        return cls(counts, torch.full((channels,), _SMALLEST, dtype=torch.float64))

    def add(self, values: Float[Tensor, "row channel"], sides: Int64[Tensor, "row"]) -> None:
        """Count some numbers, each row of the side given."""
        wide = values.double()
        largest = wide.abs().amax(dim=0)
        for channel in torch.nonzero(largest >= self.reach).flatten().tolist():
            self._widen(channel, float(largest[channel]))
        places = ((wide / self.reach + 1) * (BINS / 2)).long().clamp(0, BINS - 1)
        channels = torch.arange(values.shape[1]).expand_as(places)
        rows = sides[:, None].expand_as(places)
        self.counts.index_put_((channels, rows, places), torch.ones_like(places), accumulate=True)

    def _widen(self, channel: int, largest: float) -> None:
        needed = max(2.0 ** (math.floor(math.log2(largest)) + 1), _SMALLEST)
        while self.reach[channel] < needed:
            halved = self.counts[channel].reshape(self.counts.shape[1], BINS // 2, 2).sum(dim=2)
            self.counts[channel] = 0
            self.counts[channel, :, BINS // 4 : 3 * BINS // 4] = halved
            self.reach[channel] *= 2

    def auroc(self, positive: int, negative: int) -> tuple[Float64[Tensor, "channel"], Float64[Tensor, "channel"]]:
        """How well each channel tells two sides apart (0.5: not at all), and how far ties within bins may move that.

        NaN where a side has no numbers.
        """
        first, second = self.counts[:, positive].double(), self.counts[:, negative].double()
        pairs = first.sum(dim=1) * second.sum(dim=1)
        below = second.cumsum(dim=1) - second
        wins, ties = (first * below).sum(dim=1), (first * second).sum(dim=1)
        return (wins + ties / 2) / pairs, ties / 2 / pairs

    def shown(self, channel: int, bins: int = 32) -> tuple[list[float], list[list[int]]]:
        """Edges and the counts of each side, over the bins that hold something, put together to few."""
        counts = self.counts[channel]
        held = torch.nonzero(counts.sum(dim=0)).flatten()
        if not held.numel():
            return [0.0, 0.0], [[0] for _ in counts]
        low, high = int(held[0]), int(held[-1]) + 1
        step = max(1, -(-(high - low) // bins))
        high = low + step * (-(-(high - low) // step))
        padded = torch.zeros(counts.shape[0], high - low, dtype=torch.int64)
        padded[:, : BINS - low] = counts[:, low : min(high, BINS)]
        merged = padded.reshape(counts.shape[0], -1, step).sum(dim=2)
        width = 2 * float(self.reach[channel]) / BINS
        edges = [-float(self.reach[channel]) + width * place for place in range(low, high + 1, step)]
        return edges, merged.tolist()
