"""Where neurons are: MLPs, routed experts, and coordinates of their hidden layers."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from neurodial.provenance import ModelIdentity

_ROUTED = ".experts"


class Site(NamedTuple):
    """Neurons of one layer that are read together: those of its dense MLP, or those of all its routed experts.

    A tensor over a dense site has the axis (neuron), one over routed experts the axes (expert, neuron). An expert that
    every token goes to, a shared one, is a dense MLP.

    Example:
        >>> Site(3), Site(3, routed=True)
        (Site(layer=3, routed=False), Site(layer=3, routed=True))
    """

    layer: int
    routed: bool = False


def site_name(site: Site) -> str:
    """A site as a name in files.

    Example:
        >>> site_name(Site(3)), site_name(Site(3, routed=True))
        ('3', '3.experts')
    """
    return f"{site.layer}{_ROUTED if site.routed else ''}"


def site_of(name: str) -> Site:
    """The reverse of `site_name`.

    Example:
        >>> site_of("3.experts")
        Site(layer=3, routed=True)
    """
    return Site(int(name.removesuffix(_ROUTED)), name.endswith(_ROUTED))


class Neuron(NamedTuple):
    """One neuron: a coordinate of the input of a down projection, of a layer's dense MLP or of one of its experts.

    Example:
        >>> Neuron(layer=3, expert=None, index=7).site
        Site(layer=3, routed=False)
    """

    layer: int
    expert: int | None
    index: int  # type: ignore[assignment]  # hides tuple.index, which a neuron does not need

    @property
    def site(self) -> Site:
        """Where it is."""
        return Site(self.layer, self.expert is not None)

    @property
    def place(self) -> tuple[int, ...]:
        """Its coordinates in a tensor over its site: (index,) or (expert, index)."""
        return (self.index,) if self.expert is None else (self.expert, self.index)

    @property
    def order(self) -> tuple[int, int, int]:
        """The sort key of neurons: a layer's dense MLP comes before its experts."""
        return (self.layer, -1 if self.expert is None else self.expert, self.index)

    @property
    def name(self) -> str:
        """A short name for people.

        Example:
            >>> Neuron(3, None, 7).name, Neuron(3, 5, 7).name
            ('layer 3, index 7', 'layer 3, expert 5, index 7')
        """
        expert = "" if self.expert is None else f"expert {self.expert}, "
        return f"layer {self.layer}, {expert}index {self.index}"

    @property
    def short(self) -> str:
        """Its place for tables.

        Example:
            >>> Neuron(3, None, 7).short, Neuron(3, 5, 7).short
            ('3.7', '3.e5.7')
        """
        return f"{self.layer}.{self.index}" if self.expert is None else f"{self.layer}.e{self.expert}.{self.index}"

    def number(self, shape: tuple[int, ...]) -> int:
        """Its place in a tensor over its site that is laid out flat, one expert after the other.

        Example:
            >>> Neuron(3, None, 7).number((24,)), Neuron(3, 5, 7).number((8, 24))
            (7, 127)
        """
        return (self.expert or 0) * shape[-1] + self.index


class OfOneNeuron:
    """What a record of one neuron shares: its place is written as plain fields, and read as a `Neuron`."""

    layer: int
    expert: int | None
    index: int

    @property
    def neuron(self) -> Neuron:
        """Which neuron it is."""
        return Neuron(self.layer, self.expert, self.index)


def places(neurons: Iterable[Neuron]) -> tuple[list[int], ...]:
    """The places of neurons of one site, as an index of a tensor over it: a list for each axis.

    Example:
        >>> places([Neuron(3, 5, 7), Neuron(3, 0, 1)])
        ([5, 0], [7, 1])
    """
    return tuple(list(axis) for axis in zip(*(neuron.place for neuron in neurons), strict=True))


def has_neuron(shape: tuple[int, ...], neuron: Neuron) -> bool:
    """Whether a neuron's place lies in its site's axes.

    Example:
        >>> has_neuron((8, 24), Neuron(0, 8, 3)), has_neuron((8, 24), Neuron(0, 7, 3))
        (False, True)
    """
    return all(0 <= at < size for at, size in zip(neuron.place, shape, strict=True))


@dataclass(frozen=True)
class AllNeurons:
    """All neurons of a model in the order (layer, expert, index), each with its position; none of them is listed.

    Attributes:
        shapes: the axes of each site.

    Example:
        >>> everything = AllNeurons({Site(0): (4,), Site(1, routed=True): (2, 3)})
        >>> everything.count, everything.at([9]), everything.positions([Neuron(1, 1, 2)])
        (10, [Neuron(layer=1, expert=1, index=2)], [9])
    """

    shapes: Mapping[Site, tuple[int, ...]]

    @classmethod
    def of(cls, model: ModelIdentity) -> AllNeurons:
        """Those of a model that a file names."""
        dense = {Site(layer): (width,) for layer, width in enumerate(model.widths) if width}
        routed = {Site(layer, routed=True): shape for layer, shape in enumerate(model.experts) if shape}
        return cls({**dense, **routed})

    @cached_property
    def _sites(self) -> list[Site]:
        return sorted(self.shapes)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(math.prod(self.shapes[site]) for site in self._sites))

    @property
    def count(self) -> int:
        """How many there are."""
        return self._ends[-1] if self._ends else 0

    def has(self, neuron: Neuron) -> bool:
        """Whether there is such a neuron."""
        return neuron.site in self.shapes and has_neuron(self.shapes[neuron.site], neuron)

    def span(self, site: Site) -> range:
        """The positions of a site's neurons."""
        place = self._sites.index(site)
        return range(self._ends[place - 1] if place else 0, self._ends[place])

    def at(self, positions: Iterable[int]) -> list[Neuron]:
        """The neurons at some positions.

        Raises:
            IndexError: a position is beyond the last neuron.
        """
        neurons = []
        for position in positions:
            site = self._sites[bisect_right(self._ends, position)]
            expert, index = divmod(position - self.span(site).start, self.shapes[site][-1])
            neurons.append(Neuron(site.layer, expert if site.routed else None, index))
        return neurons

    def layer_span(self, layer: int) -> range:
        """The positions of all neurons of a layer, its dense MLP's first; empty where it has none.

        Example:
            >>> AllNeurons({Site(0): (4,), Site(0, routed=True): (2, 3)}).layer_span(0)
            range(0, 10)
        """
        spans = [self.span(site) for site in self._sites if site.layer == layer]
        return range(spans[0].start, spans[-1].stop) if spans else range(0)

    def positions(self, neurons: Iterable[Neuron]) -> list[int]:
        """The positions of some neurons; the inverse of `at`."""
        starts = {site: self.span(site).start for site in self._sites}
        return [starts[neuron.site] + neuron.number(self.shapes[neuron.site]) for neuron in neurons]
