"""What an intervention compiles to: edits at the hook points of a model, each with settings for every slot.

Settings have the axes (phase, column, …). Phase 0 is the prompt. Generated tokens are of phase 1 (the answer), 2
(thinking before it) or 3 (a tool call), and 4 to 6 are the same after the first k tokens; where every edit treats
those alike, all are of phase 1. Slot `s` holds the settings of the s-th intervention of a batch: one column, or where
it has conditions on the prompt, one for each outcome. Which row uses which slot is decided when a batch runs
(`Steering.assign`), so one batch may have a different dial in each row, and changing a dial changes buffers, never
hooks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurodial.circuit.prompt_condition import PromptCondition
from neurodial.circuit.site import Site
from neurodial.intervention.when import LATE, First, When, read_when
from neurodial.model.experts import Visits


class HookPoint(NamedTuple):
    """A place where a model can be edited: a site's neurons, a residual write, a block's output, the embedding."""

    kind: Literal["neurons", "attention", "mlp", "block", "embedding"]
    layer: int
    routed: bool = False

    @property
    def site(self) -> Site:
        """Whose neurons are edited."""
        return Site(self.layer, self.routed)


class SlotIndex(NamedTuple):
    """Which setting each cell of a batch uses.

    Attributes:
        phase: one for all cells, or one per cell.
        column: 0 for all rows, or one per row.
    """

    phase: int | Int[Tensor, "row token"]
    column: int | Int[Tensor, "row"]

    def of(self, settings: Float[Tensor, "phase column *rest"]) -> Tensor:
        """The chosen settings, in a shape that broadcasts against (row, token, feature)."""
        if isinstance(self.phase, int):
            chosen = settings[self.phase, self.column]
            return chosen if isinstance(self.column, int) else chosen.unsqueeze(1)
        column = self.column if isinstance(self.column, int) else self.column.unsqueeze(1)
        return settings[self.phase, column]

    def of_visits(self, settings: Float[Tensor, "phase column expert neuron"], visits: Visits) -> Tensor:
        """The chosen settings of each visit of a token to an expert, (visit, neuron)."""
        if isinstance(self.phase, int) and isinstance(self.column, int):
            return settings[self.phase, self.column].index_select(0, visits.experts)
        phase = self.phase if isinstance(self.phase, int) else self.phase.reshape(-1)[visits.cells]
        column = self.column if isinstance(self.column, int) else self.column[visits.rows]
        return settings[phase, column, visits.experts]


class SlottedEdit(ABC):
    """An edit at one hook point: its settings over phases and columns, and how they change a tensor."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """The settings, each (phase, column, …)."""

    @abstractmethod
    def with_tensors(self, tensors: Sequence[Tensor]) -> SlottedEdit:
        """The same edit with other settings."""

    @abstractmethod
    def apply(self, hidden: Tensor, *settings: Tensor) -> Tensor:
        """The edited (row, token, feature) or (visit, neuron), never in place; `settings` are what a `SlotIndex` chose.

        Plain tensors in the signature: it also runs under torch.compile, which shape checks would break.
        """

    def neutral(self, columns: int = 1) -> SlottedEdit:
        """Columns that change nothing."""
        empty = [torch.zeros_like(tensor[:, :1]) for tensor in self.tensors()]
        return self.with_tensors([tensor.expand(-1, columns, *tensor.shape[2:]) for tensor in empty])

    def columns(self, chosen: Sequence[int]) -> SlottedEdit:
        """The same edit with the given columns, in their order."""
        return self.with_tensors([tensor[:, list(chosen)] for tensor in self.tensors()])

    def to(self, device: torch.device, dtype: torch.dtype) -> SlottedEdit:
        """The settings on the device and in the precision in which they are used."""
        return self.with_tensors([tensor.to(device, dtype) for tensor in self.tensors()])

    @property
    def ignores_phase(self) -> bool:
        """Whether prompt and generated tokens are treated alike."""
        return self.ignores_parts and all(bool(torch.equal(tensor[0], tensor[1])) for tensor in self.tensors())

    @property
    def ignores_parts(self) -> bool:
        """Whether all generated tokens are treated alike."""
        return all(bool((tensor[2:] == tensor[1]).all()) for tensor in self.tensors())


@dataclass(frozen=True)
class Multiply(SlottedEdit):
    """Neuron j becomes `(1 - dose_j) * a_j`. Doses at one neuron add."""

    doses: Float[Tensor, "phase column *neuron"]
    are_multipliers: bool = False

    def tensors(self) -> tuple[Tensor, ...]:
        """The doses, or the multipliers once placed on a device."""
        return (self.doses,)

    def with_tensors(self, tensors: Sequence[Tensor]) -> Multiply:
        """The same with other doses."""
        return Multiply(tensors[0], self.are_multipliers)

    def to(self, device: torch.device, dtype: torch.dtype) -> Multiply:
        """Multipliers instead of doses: subtracted once in float64, not at every token."""
        return Multiply((1 - self.doses).to(device, dtype), are_multipliers=True)

    def apply(self, hidden: Tensor, *settings: Tensor) -> Tensor:
        """One multiply."""
        return hidden * settings[0]


@dataclass(frozen=True)
class Add(SlottedEdit):
    """A vector is added."""

    vectors: Float[Tensor, "phase column feature"]

    def tensors(self) -> tuple[Tensor, ...]:
        """The vectors, dial included."""
        return (self.vectors,)

    def with_tensors(self, tensors: Sequence[Tensor]) -> Add:
        """The same with other vectors."""
        return Add(tensors[0])

    def apply(self, hidden: Tensor, *settings: Tensor) -> Tensor:
        """One addition."""
        return hidden + settings[0]


@dataclass(frozen=True)
class Project(SlottedEdit):
    """The component along a unit vector is removed, times the strength: `h - s (h·u) u`."""

    directions: Float[Tensor, "phase column feature"]
    strengths: Float[Tensor, "phase column one"]

    def tensors(self) -> tuple[Tensor, ...]:
        """Directions and strengths."""
        return (self.directions, self.strengths)

    def with_tensors(self, tensors: Sequence[Tensor]) -> Project:
        """The same with other settings."""
        return Project(*tensors)

    def to(self, device: torch.device, dtype: torch.dtype) -> Project:
        """At least float32: a unit vector rounded to bfloat16 would leave a part of the component behind."""
        wide = torch.promote_types(dtype, torch.float32)
        return self.with_tensors([tensor.to(device, wide) for tensor in self.tensors()])

    def apply(self, hidden: Tensor, *settings: Tensor) -> Tensor:
        """One projection, rounded to the activation's precision once, at its end."""
        direction, strength = settings
        wide = hidden.to(direction.dtype)
        along = (wide * direction).sum(dim=-1, keepdim=True)
        return (wide - strength * along * direction).to(hidden.dtype)


@dataclass(frozen=True)
class Replace(SlottedEdit):
    """Neuron j moves from its activation towards a constant: `a + s_j (v_j - a)`; s_j = 0 leaves it."""

    values: Float[Tensor, "phase column *neuron"]
    shares: Float[Tensor, "phase column *neuron"]

    def tensors(self) -> tuple[Tensor, ...]:
        """Values and shares."""
        return (self.values, self.shares)

    def with_tensors(self, tensors: Sequence[Tensor]) -> Replace:
        """The same with other settings."""
        return Replace(*tensors)

    def apply(self, hidden: Tensor, *settings: Tensor) -> Tensor:
        """An interpolation, exact at both ends: share 0 leaves the activation bit for bit, share 1 gives the value."""
        value, share = settings
        return torch.where(share == 0, hidden, torch.lerp(hidden, value.expand_as(hidden), share))


class Choice(NamedTuple):
    """Which column a slot uses.

    Attributes:
        conditions: on the prompt.
        columns: one for each outcome of the conditions; bit n of its place says whether condition n holds.
    """

    conditions: tuple[PromptCondition, ...]
    columns: tuple[int, ...]

    def column(self, holds: Mapping[PromptCondition, bool]) -> int:
        """The column for what was decided."""
        return self.columns[sum(holds[condition] << place for place, condition in enumerate(self.conditions))]


@dataclass(frozen=True)
class Plan:
    """Edits in the order in which they act.

    Attributes:
        edits: hook point and edit of each.
        slots: number of slots of every edit.
        rows: the number of rows that the dials were given for, one slot each; None where one slot is for all.
        first: only the first generated tokens; None for all.
        choices: which column each slot uses, where some have conditions; None: slot s uses column s.
    """

    edits: tuple[tuple[HookPoint, SlottedEdit], ...]
    slots: int = 1
    rows: int | None = None
    first: First | None = None
    choices: tuple[Choice, ...] | None = None

    @property
    def ignores_phase(self) -> bool:
        """Whether prompt and generated tokens are treated alike."""
        return all(edit.ignores_phase for _, edit in self.edits)

    @property
    def ignores_parts(self) -> bool:
        """Whether all generated tokens are treated alike: thinking, the answer and tool calls, the first and others."""
        return all(edit.ignores_parts for _, edit in self.edits)

    def choice(self, slot: int) -> Choice:
        """Which columns a slot uses."""
        return Choice((), (slot,)) if self.choices is None else self.choices[slot]


def spread(values: Tensor, when: When) -> Float[Tensor, "phase column *rest"]:
    """Settings (column, …) over the phases in which they act; zero, which changes nothing, in the others."""
    phases, first = read_when(when)
    late = phases[1:] if first is None else (False,) * LATE
    return torch.stack([values if active else torch.zeros_like(values) for active in (*phases, *late)])


def phases_of(cached: int, tokens: int, boundary: Sequence[int] | None, device: torch.device) -> int | Tensor:
    """The phase of each cell of a pass: one number where all cells agree.

    Without a boundary the pass that fills an empty cache is the prompt and every later one is generated. With one,
    row r's tokens from place `boundary[r]` on are generated.
    """
    if boundary is None:
        return 0 if cached == 0 else 1
    if cached + tokens <= min(boundary):
        return 0
    if cached >= max(boundary):
        return 1
    edge = torch.tensor(list(boundary), device=device)[:, None]
    place = torch.arange(cached, cached + tokens, device=device)[None, :]
    is_generated: Bool[Tensor, "row token"] = place >= edge
    return is_generated.long()
