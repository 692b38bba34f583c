"""Places of texts that are kept while they are read: strongest, weakest, and any, in memory that does not grow."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.explain.corpus import Text

BEFORE, AFTER = 24, 8
"""Tokens around a place that are kept with it."""


@dataclass(frozen=True)
class TextPlace:
    """A token of a text where a channel was read, and what stands around it.

    Attributes:
        text: number of the text in its corpus.
        position: the token.
        value: the channel's value there.
        start: the first token of the window.
        values: the channel's values over the window.
    """

    text: int
    position: int
    value: float
    start: int
    values: tuple[float, ...]


@dataclass
class KeptPlaces:
    """Strongest and weakest places of each channel, one of a text, and a fair sample of all places.

    Attributes:
        count: strongest and weakest places kept for each channel.
        sample: places in the sample; all channels share them.
        generator: draws the sample.
    """

    count: int
    sample: int
    generator: torch.Generator
    _seen: int = 0
    _high: list[list[tuple[float, int, TextPlace]]] = field(default_factory=list)
    _low: list[list[tuple[float, int, TextPlace]]] = field(default_factory=list)
    _sample: list[tuple[int, int, int, Tensor]] = field(default_factory=list)

    def add(self, number: int, values: Float[Tensor, "token channel"], first: int, last: int) -> None:
        """Take in one text: the channels at every token; places from `first` on and before `last` count."""
        inside = values[first:last]
        if not self._high:
            self._high = [[] for _ in range(values.shape[1])]
            self._low = [[] for _ in range(values.shape[1])]
        for heaps, sign in ((self._high, 1.0), (self._low, -1.0)):
            best, where = (sign * inside).max(dim=0)
            for channel, (value, at) in enumerate(zip(best.tolist(), where.tolist(), strict=True)):
                heap = heaps[channel]
                if len(heap) < self.count or value > heap[0][0]:
                    entry = (value, -number, _place(number, first + at, values[:, channel]))
                    (heapq.heappush if len(heap) < self.count else heapq.heappushpop)(heap, entry)
        self._draw(number, values, first, last)

    def _draw(self, number: int, values: Float[Tensor, "token channel"], first: int, last: int) -> None:
        """One token of each text, and of these a reservoir: every text is as likely as every other."""
        self._seen += 1
        slot = len(self._sample)
        if slot >= self.sample:
            slot = int(torch.randint(self._seen, (), generator=self.generator))
            if slot >= self.sample:
                return
        position = first + int(torch.randint(last - first, (), generator=self.generator))
        start = max(0, position - BEFORE)
        entry = (number, position, start, values[start : position + AFTER + 1].clone())
        self._sample[slot : slot + 1] = [entry]

    def strongest(self, channel: int) -> list[TextPlace]:
        """Largest first."""
        return [place for _, _, place in sorted(self._high[channel], key=lambda entry: (-entry[0], -entry[1]))]

    def weakest(self, channel: int) -> list[TextPlace]:
        """Smallest first."""
        return [place for _, _, place in sorted(self._low[channel], key=lambda entry: (-entry[0], -entry[1]))]

    def sampled(self, channel: int) -> list[TextPlace]:
        """The fair sample, smallest value first."""
        places = [
            TextPlace(
                number, position, float(window[position - start, channel]), start, tuple(window[:, channel].tolist())
            )
            for number, position, start, window in self._sample
        ]
        return sorted(places, key=lambda place: (place.value, place.text))


def _place(number: int, position: int, values: Float[Tensor, "token"]) -> TextPlace:
    start = max(0, position - BEFORE)
    window = values[start : position + AFTER + 1].tolist()
    return TextPlace(number, position, float(values[position]), start, tuple(window))


def middle(places: Sequence[TextPlace], count: int) -> list[TextPlace]:
    """Places around the middle of a sample that is in order of value: from the first quarter to the third.

    Example:
        >>> sample = [TextPlace(number, 0, float(number), 0, (float(number),)) for number in range(9)]
        >>> [place.text for place in middle(sample, 3)]
        [2, 4, 6]
    """
    if len(places) <= count:
        return list(places)
    low, high = 0.25 * (len(places) - 1), 0.75 * (len(places) - 1)
    steps = [low + (high - low) * (number / (count - 1) if count > 1 else 0.5) for number in range(count)]
    return [places[round(step)] for step in steps]


def window_tokens(place: TextPlace, text: Text) -> tuple[int, ...]:
    """The tokens of a place's window."""
    return text.tokens[place.start : place.start + len(place.values)]
