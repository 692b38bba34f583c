"""Where neurons are: MLPs and coordinates of their hidden layer."""

from __future__ import annotations

from typing import NamedTuple


class Site(NamedTuple):
    """One MLP of a model: a layer, and an expert of it in a mixture of experts.

    Example:
        >>> Site(3)
        Site(layer=3, expert=None)
    """

    layer: int
    expert: int | None = None

    @property
    def order(self) -> tuple[int, int]:
        """The sort key of sites; a layer's dense MLP comes before its experts."""
        return (self.layer, -1 if self.expert is None else self.expert)


class Neuron(NamedTuple):
    """One neuron: a coordinate of the input of a layer's down projection.

    Example:
        >>> Neuron(layer=3, expert=None, index=7).site
        Site(layer=3, expert=None)
    """

    layer: int
    expert: int | None
    index: int  # type: ignore[assignment]  # hides tuple.index, which a neuron does not need

    @property
    def site(self) -> Site:
        """The MLP it belongs to."""
        return Site(self.layer, self.expert)
