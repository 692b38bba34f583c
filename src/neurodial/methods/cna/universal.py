"""Universal neurons (arXiv 2605.12290): among the most active on almost any prompt, so not specific to a behaviour.

1. For each diverse prompt, mark the top 0.1 % of all neurons by |a| at the position read.
2. Flag the neurons that are marked on at least 80 % of the prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.collect import Reader, Reading, collect
from neurodial.circuit.selection import Fraction
from neurodial.circuit.site import Neuron, Site
from neurodial.methods.cna.options import UniversalFilter
from neurodial.methods.scores import Scores
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.render import Tokens


def universal_neurons(
    subject: Subject,
    sequences: Sequence[Tokens],
    reading: Reading,
    rule: UniversalFilter,
    *,
    read: Reader = collect,
    progress: Progress = silent,
) -> frozenset[Neuron]:
    """The neurons that are universal on the given diverse prompts. Memory does not grow with their number."""
    marks = _Marks(subject, Fraction(rule.fraction).count(subject.neurons))
    read(subject, sequences, reading, marks.add, progress=progress)
    needed = math.ceil(rule.share * len(sequences) - 1e-9)
    layout = Scores({site: torch.zeros(subject.shape(site)) for site in subject.sites})
    return frozenset(layout.neurons_at((marks.count >= needed).nonzero().flatten().tolist()))


class _Marks:
    """Counts on how many prompts each neuron is among the most active; a sink for `collect`."""

    def __init__(self, subject: Subject, top: int) -> None:
        self.count = torch.zeros(subject.neurons, dtype=torch.long)
        self._sites, self._top = subject.sites, top
        self._batch: dict[Site, Tensor] = {}

    def add(self, site: Site, activations: Float[Tensor, "row *neuron"], rows: tuple[int, ...]) -> None:
        """Gather the sites of one batch; mark when all of them are there."""
        del rows
        self._batch[site] = activations.abs().cpu().flatten(1)
        if len(self._batch) == len(self._sites):
            everywhere = torch.cat([self._batch[site] for site in self._sites], dim=1)
            chosen = everywhere.topk(self._top, dim=1).indices.flatten()
            self.count += torch.bincount(chosen, minlength=self.count.numel())
            self._batch.clear()
