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


def site_name(site: Site) -> str:
    """A site as a name in files.

    Example:
        >>> site_name(Site(3)), site_name(Site(3, 1))
        ('3', '3.1')
    """
    return str(site.layer) if site.expert is None else f"{site.layer}.{site.expert}"


def site_of(name: str) -> Site:
    """The reverse of `site_name`.

    Example:
        >>> site_of("3.1")
        Site(layer=3, expert=1)
    """
    layer, _, expert = name.partition(".")
    return Site(int(layer), int(expert) if expert else None)


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
