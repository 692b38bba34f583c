"""Which rows of a flat batch are read, and what is kept of them: the part of gathering that needs torch alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

TAG = "neurodial_prompt"
"""The field of a request's `extra_args` that holds the number of its prompt."""


class Scheduled(NamedTuple):
    """A request's share of one step.

    Attributes:
        prompt: its number; None for a request that is none of ours.
        computed: how many of its tokens were computed before.
        size: how many are in this step.
    """

    prompt: int | None
    computed: int
    size: int


class RowRead(NamedTuple):
    """A row of the flat batch that is read: of which prompt, and at which place of it."""

    row: int
    prompt: int
    place: int


def rows_read(batch: Sequence[Scheduled], read: Sequence[Sequence[int]]) -> list[RowRead]:
    """The rows of a flat batch that are to be read.

    Args:
        batch: the requests, in the order in which they lie in it.
        read: which places of each prompt are read.

    Example:
        >>> rows_read([Scheduled(1, 0, 4), Scheduled(None, 9, 1), Scheduled(0, 4, 2)], [[5], [1, 3]])
        [RowRead(row=1, prompt=1, place=1), RowRead(row=3, prompt=1, place=3), RowRead(row=6, prompt=0, place=5)]
    """
    found, start = [], 0
    for request in batch:
        if request.prompt is not None:
            inside = range(request.computed, request.computed + request.size)
            places = [place for place in read[request.prompt] if place in inside]
            found += [RowRead(start + place - request.computed, request.prompt, place) for place in places]
        start += request.size
    return found


@dataclass
class Buffer:
    """What one process has of one site, for one run of prompts.

    Attributes:
        site: the site's name.
        start: its first neuron.
        stop: the neuron after its last.
        experts: the experts that are here, None for a dense site.
        visits: to how many experts each token goes.
        step: what the present step gave: values of the rows read, of experts also which row and expert each is of.
        rows, prompts, chosen: what was kept of the steps before.
        tokens: how many tokens of each prompt were seen.
    """

    site: str
    start: int
    stop: int
    experts: list[int] | None = None
    visits: int = 1
    step: list[tuple[torch.Tensor, ...]] = field(default_factory=list)
    rows: list[torch.Tensor] = field(default_factory=list)
    prompts: list[torch.Tensor] = field(default_factory=list)
    chosen: list[torch.Tensor] = field(default_factory=list)
    tokens: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    def begin(self, prompts: int) -> None:
        """Start a run of prompts."""
        self.tokens = torch.zeros(prompts, dtype=torch.long)
        for kept in (self.step, self.rows, self.prompts, self.chosen):
            kept.clear()

    def keep(self, prompts: torch.Tensor, shares: torch.Tensor) -> None:
        """Keep what the step gave, on the processor.

        Args:
            prompts: of each row that was read, counted from the run's first.
            shares: of each row, its part in the mean over its prompt's tokens.
        """
        for given, *which in self.step:
            values = given.cpu()
            of_row, experts = (each.cpu() for each in which) if which else (torch.arange(len(values)), None)
            if experts is not None or bool((shares != 1).any()):
                values = values.float() * shares[of_row][:, None]
            self.rows.append(values)
            self.prompts.append(prompts[of_row])
            if experts is not None:
                self.chosen.append(experts)
            self.tokens += torch.bincount(prompts, minlength=len(self.tokens))  # a second time in a step is seen, too
        self.step.clear()

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of the run, as `pieces` reads it."""
        width = self.stop - self.start
        rows = torch.cat(self.rows) if self.rows else torch.zeros(0, width)
        prompts = torch.cat(self.prompts) if self.prompts else torch.zeros(0, dtype=torch.long)
        if self.experts is not None:
            chosen = torch.cat(self.chosen) if self.chosen else torch.zeros(0, dtype=torch.long)
            return {"rows": rows, "prompt": prompts.int(), "expert": chosen.int(), "tokens": self.tokens}
        dense = rows.new_zeros(len(self.tokens), width).index_add_(0, prompts, rows)
        return {"rows": dense, "tokens": self.tokens}


def module_of(names: Sequence[str], block: str, inside: str) -> str | None:
    """The engine's name of a module that transformers calls `block.inside`; None where it is not here.

    Args:
        names: of the engine's modules of the right kind.
        block: transformers' name of the block, which ends with its number.
        inside: the name of the module in it.

    Raises:
        ValueError: several fit equally well.

    Example:
        >>> module_of(["language_model.model.layers.1.mlp.down_proj"], "model.layers.1", "mlp.down_proj")
        'language_model.model.layers.1.mlp.down_proj'
    """
    number = block.rpartition(".")[2]
    fit = re.compile(rf"(?:^|\.){number}\.{re.escape(inside)}(?:\.|$)")
    found = [name for name in names if fit.search(name)]
    if len(found) > 1:  # an encoder beside the language model: the containers' names decide
        shared = [_common_end(fit.split(name)[0], block.rpartition(".")[0]) for name in found]
        found = [name for name, length in zip(found, shared, strict=True) if length == max(shared)]
    if len(found) > 1:
        raise ValueError(f"{block}.{inside} could be each of {', '.join(found)}")
    return found[0] if found else None


def _common_end(one: str, other: str) -> int:
    """How many names two dotted paths share at their ends."""
    count = 0
    for a, b in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if a != b:
            break
        count += 1
    return count
