"""One signed number per neuron."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neurodial.circuit.site import AllNeurons, Neuron, Site, places, site_name, site_of
from neurodial.errors import ActivationError


@dataclass(frozen=True)
class Scores(Mapping[Site, Tensor]):
    """Signed scores of every neuron, one tensor per site, (neuron) or (expert, neuron); layers may differ in width.

    Example:
        >>> scores = Scores({Site(0): torch.tensor([1.0, -2.0])})
        >>> scores.neurons
        2

    Raises:
        ActivationError: a score is not finite.
    """

    by_site: Mapping[Site, Float[Tensor, "*neuron"]]

    def __post_init__(self) -> None:
        for site, values in self.by_site.items():
            if not bool(torch.isfinite(values).all()):
                raise ActivationError(f"Layer {site.layer} has scores that are not finite.", wanted="finite numbers")

    def __getitem__(self, site: Site) -> Float[Tensor, "*neuron"]:
        return self.by_site[site]

    def __iter__(self) -> Iterator[Site]:
        return iter(sorted(self.by_site))

    def __len__(self) -> int:
        return len(self.by_site)

    def tensors(self) -> dict[str, Tensor]:
        """The scores by the names of their sites, for a file."""
        return {site_name(site): self[site] for site in self}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], device: torch.device) -> Scores:
        """The reverse of `tensors`."""
        return cls({site_of(name): tensor.to(device) for name, tensor in tensors.items()})

    @property
    def neurons(self) -> int:
        """Number of neurons over all sites."""
        return sum(values.numel() for values in self.by_site.values())

    def flat(self) -> Float[Tensor, "all"]:
        """All scores in the order (layer, expert, index), on the CPU in float64."""
        return torch.cat([self[site].detach().to("cpu", torch.float64).flatten() for site in self])

    def layers(self) -> Int[Tensor, "all"]:
        """The layer of every position of `flat`.

        Example:
            >>> Scores({Site(0): torch.zeros(2), Site(1): torch.zeros(1)}).layers().tolist()
            [0, 0, 1]
        """
        sizes = torch.tensor([self[site].numel() for site in self])
        return torch.tensor([site.layer for site in self]).repeat_interleave(sizes)

    def without(self, neurons: Iterable[Neuron]) -> Scores:
        """The same with some neurons' scores 0."""
        left_out: dict[Site, list[Neuron]] = {}
        for neuron in neurons:
            left_out.setdefault(neuron.site, []).append(neuron)
        changed = {site: self[site].clone() for site in left_out}
        for site, of_site in left_out.items():
            changed[site][places(of_site)] = 0.0
        return Scores({**self.by_site, **changed})

    def neuron(self, position: int) -> Neuron:
        """The neuron at a position of `flat`.

        Raises:
            IndexError: the position is beyond the last neuron.
        """
        return self.neurons_at([position])[0]

    def places_of(self, neurons: Sequence[Neuron]) -> list[int]:
        """The positions of neurons in `flat`; the inverse of `neurons_at`."""
        return self._everything.positions(neurons)

    def neurons_at(self, positions: Sequence[int]) -> list[Neuron]:
        """The neurons at positions of `flat`.

        Raises:
            IndexError: a position is beyond the last neuron.
        """
        return self._everything.at(positions)

    @cached_property
    def _everything(self) -> AllNeurons:
        return AllNeurons({site: tuple(values.shape) for site, values in self.by_site.items()})
