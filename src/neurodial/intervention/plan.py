"""What an intervention compiles to: edits at the hook points of a model, each with settings for every slot.

Settings have the axes (phase, slot, …). Phase 0 is the prompt. Generated tokens are of phase 1 (the answer), 2
(thinking before it) or 3 (a tool call); where every edit treats those alike, all are of phase 1. Slot `s` holds the
settings of the s-th intervention of a batch. Which row uses which slot is decided when a batch runs
(`Steering.assign`), so one batch may have a different dial in each row, and changing a dial changes buffers, never
hooks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neurodial.circuit.site import Site
from neurodial.model.experts import Visits
from neurodial.text.answer_parts import Part

When = Literal["all", "prompt", "generated", "thinking", "answer", "tools"]
PHASES: dict[When, tuple[bool, bool, bool, bool]] = {
    "all": (True, True, True, True),
    "prompt": (True, False, False, False),
    "generated": (False, True, True, True),
    "thinking": (False, False, True, False),
    "answer": (False, True, False, False),
    "tools": (False, False, False, True),
}
"""For each phase, whether steering acts in it: the prompt, the answer, thinking, tool calls."""
PHASE_OF: dict[Part, int] = {"answer": 1, "thinking": 2, "tools": 3}


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
        slot: 0 for all rows, or one per row.
    """

    phase: int | Int[Tensor, "row token"]
    slot: int | Int[Tensor, "row"]

    def of(self, settings: Float[Tensor, "phase slot *rest"]) -> Tensor:
        """The chosen settings, in a shape that broadcasts against (row, token, feature)."""
        if isinstance(self.phase, int):
            chosen = settings[self.phase, self.slot]
            return chosen if isinstance(self.slot, int) else chosen.unsqueeze(1)
        slot = self.slot if isinstance(self.slot, int) else self.slot.unsqueeze(1)
        return settings[self.phase, slot]

    def of_visits(self, settings: Float[Tensor, "phase slot expert neuron"], visits: Visits) -> Tensor:
        """The chosen settings of each visit of a token to an expert, (visit, neuron)."""
        phase = self.phase if isinstance(self.phase, int) else self.phase.reshape(-1)[visits.cells]
        slot = self.slot if isinstance(self.slot, int) else self.slot[visits.rows]
        return settings[phase, slot, visits.experts]


class SlottedEdit(ABC):
    """An edit at one hook point: its settings over phases and slots, and how they change a tensor."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """The settings, each (phase, slot, …)."""

    @abstractmethod
    def with_tensors(self, tensors: Sequence[Tensor]) -> SlottedEdit:
        """The same edit with other settings."""

    @abstractmethod
    def apply(self, hidden: Tensor, *settings: Tensor) -> Tensor:
        """The edited (row, token, feature) or (visit, neuron), never in place; `settings` are what a `SlotIndex` chose.

        Plain tensors in the signature: it also runs under torch.compile, which shape checks would break.
        """

    def neutral(self) -> SlottedEdit:
        """One slot that changes nothing."""
        return self.with_tensors([torch.zeros_like(tensor[:, :1]) for tensor in self.tensors()])

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

    doses: Float[Tensor, "phase slot *neuron"]
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

    vectors: Float[Tensor, "phase slot feature"]

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

    directions: Float[Tensor, "phase slot feature"]
    strengths: Float[Tensor, "phase slot one"]

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

    values: Float[Tensor, "phase slot *neuron"]
    shares: Float[Tensor, "phase slot *neuron"]

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


@dataclass(frozen=True)
class Plan:
    """Edits in the order in which they act.

    Attributes:
        edits: hook point and edit of each.
        slots: number of slots of every edit.
        rows: the number of rows that the dials were given for, one slot each; None where one slot is for all.
    """

    edits: tuple[tuple[HookPoint, SlottedEdit], ...]
    slots: int = 1
    rows: int | None = None

    @property
    def ignores_phase(self) -> bool:
        """Whether prompt and generated tokens are treated alike."""
        return all(edit.ignores_phase for _, edit in self.edits)

    @property
    def ignores_parts(self) -> bool:
        """Whether all generated tokens are treated alike: thinking, the answer and tool calls."""
        return all(edit.ignores_parts for _, edit in self.edits)


def spread(values: Tensor, when: When) -> Float[Tensor, "phase slot *rest"]:
    """Settings (slot, …) over the phases in which they act; zero, which changes nothing, in the others."""
    return torch.stack([values if active else torch.zeros_like(values) for active in PHASES[when]])


def stack(plans: Sequence[Plan]) -> Plan:
    """One plan whose slot s does what plan s does. Each plan must have one slot.

    Edits of one kind at one point become one where each plan's own order at the point allows it, so many dials of
    one circuit cost one multiply.
    """
    points: dict[HookPoint, list[tuple[type[SlottedEdit], list[SlottedEdit | None]]]] = {}
    for number, plan in enumerate(plans):
        reached: dict[HookPoint, int] = {}
        for point, edit in plan.edits:
            shared = points.setdefault(point, [])
            start = reached.get(point, 0)
            place = next((n for n in range(start, len(shared)) if shared[n][0] is type(edit)), None)
            if place is None:
                place = start
                shared.insert(place, (type(edit), [None] * len(plans)))
            shared[place][1][number] = edit
            reached[point] = place + 1
    edits = [(point, _side_by_side(own)) for point, shared in points.items() for _, own in shared]
    return Plan(tuple(edits), len(plans))


def _side_by_side(edits: Sequence[SlottedEdit | None]) -> SlottedEdit:
    """Edits of one kind as one edit, a slot each; None changes nothing."""
    template = next(edit for edit in edits if edit is not None)
    filled = [template.neutral() if edit is None else edit for edit in edits]
    settings = zip(*(edit.tensors() for edit in filled), strict=True)
    return template.with_tensors([torch.cat(tensors, dim=1) for tensors in settings])


def compose(plans: Sequence[Plan]) -> Plan:
    """One plan that makes the edits of all given ones: doses at one site add, other edits act one after the other."""
    rows = {plan.rows for plan in plans if plan.rows is not None}
    slots = max((plan.slots for plan in plans), default=1)
    doses: dict[HookPoint, Tensor] = {}
    others: list[tuple[HookPoint, SlottedEdit]] = []
    for plan in plans:
        for point, edit in plan.edits:
            if isinstance(edit, Multiply):
                doses[point] = doses[point] + edit.doses if point in doses else edit.doses
            else:
                others.append((point, _widened(edit, slots)))
    first = [(point, _widened(Multiply(dose), slots)) for point, dose in doses.items()]
    return Plan((*first, *others), slots, next(iter(rows), None))


def _widened(edit: SlottedEdit, slots: int) -> SlottedEdit:
    return edit.with_tensors([tensor.expand(-1, slots, *tensor.shape[2:]) for tensor in edit.tensors()])


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
