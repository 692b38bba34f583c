"""What an intervention compiles to: edits at the doors of a model, each with a bank of settings.

A bank has the axes (phase, slot, …). Phase 0 is the prompt; what is generated is 1 the answer, 2 thinking before it,
or 3 the call of a tool; where no edit tells those apart, all of it is 1. Slot `s` holds the settings of
the s-th intervention of a batch; which row uses which slot is decided when a batch runs (`Steering.assign`), so
one batch may carry a different dial in each row, and changing a dial changes buffers, never hooks.
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
from neurodial.text.parts import Part

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


class Door(NamedTuple):
    """A place where a model can be edited: a site's neurons, a residual write, a block's output, the embedding."""

    kind: Literal["neurons", "attention", "mlp", "block", "embedding"]
    layer: int
    expert: int | None = None

    @property
    def site(self) -> Site:
        """The MLP, where the door is to neurons."""
        return Site(self.layer, self.expert)


class Pick(NamedTuple):
    """Which bank entry each cell of a batch uses.

    Attributes:
        phase: one for all cells alike, or one per cell.
        slot: 0 for all rows alike, or one per row.
    """

    phase: int | Int[Tensor, "row token"]
    slot: int | Int[Tensor, "row"]

    def of(self, bank: Float[Tensor, "phase slot *rest"]) -> Tensor:
        """The entries of a bank, in a shape that broadcasts against (row, token, feature)."""
        if isinstance(self.phase, int):
            chosen = bank[self.phase, self.slot]
            return chosen if isinstance(self.slot, int) else chosen.unsqueeze(1)
        slot = self.slot if isinstance(self.slot, int) else self.slot.unsqueeze(1)
        return bank[self.phase, slot]


class Bank(ABC):
    """Settings of one edit at one door, over phases and slots, and how they change a tensor."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """The settings, each (phase, slot, …)."""

    @abstractmethod
    def with_tensors(self, tensors: Sequence[Tensor]) -> Bank:
        """The same edit with other settings."""

    @abstractmethod
    def apply(self, hidden: Tensor, *settings: Tensor) -> Tensor:
        """The edited (row, token, feature), never in place; `settings` are what a `Pick` chose, in order.

        Plain tensors in the signature: it also runs under torch.compile, which shape checks would break.
        """

    def neutral(self) -> Bank:
        """One slot that changes nothing."""
        return self.with_tensors([torch.zeros_like(tensor[:, :1]) for tensor in self.tensors()])

    def to(self, device: torch.device, dtype: torch.dtype) -> Bank:
        """The settings where, and in the precision that, they are used."""
        return self.with_tensors([tensor.to(device, dtype) for tensor in self.tensors()])

    @property
    def ignores_phase(self) -> bool:
        """Whether prompt and generated tokens are treated alike."""
        return self.ignores_parts and all(bool(torch.equal(tensor[0], tensor[1])) for tensor in self.tensors())

    @property
    def ignores_parts(self) -> bool:
        """Whether all that is generated is treated alike."""
        return all(bool((tensor[2:] == tensor[1]).all()) for tensor in self.tensors())


@dataclass(frozen=True)
class Multiply(Bank):
    """Neuron j becomes `(1 - dose_j) * a_j`. Doses at one neuron add."""

    doses: Float[Tensor, "phase slot neuron"]
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
class Add(Bank):
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
class Project(Bank):
    """The component along a unit vector is taken out, times the strength: `h - s (h·u) u`."""

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
class Replace(Bank):
    """Neuron j moves from its activation towards a constant: `a + s_j (v_j - a)`; s_j = 0 leaves it."""

    values: Float[Tensor, "phase slot neuron"]
    shares: Float[Tensor, "phase slot neuron"]

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
    """Edits in the order in which they are made.

    Attributes:
        edits: door and bank of each.
        slots: number of slots of every bank.
        rows: the number of rows that the dials were given for, one slot each; None where one slot serves all.
    """

    edits: tuple[tuple[Door, Bank], ...]
    slots: int = 1
    rows: int | None = None

    @property
    def ignores_phase(self) -> bool:
        """Whether prompt and generated tokens are treated alike."""
        return all(bank.ignores_phase for _, bank in self.edits)

    @property
    def ignores_parts(self) -> bool:
        """Whether all that is generated is treated alike: thinking, the answer and tool calls."""
        return all(bank.ignores_parts for _, bank in self.edits)


def spread(values: Tensor, when: When) -> Float[Tensor, "phase slot *rest"]:
    """Settings (slot, …) over the phases in which they act; zero, which changes nothing, in the others."""
    return torch.stack([values if active else torch.zeros_like(values) for active in PHASES[when]])


def stack(plans: Sequence[Plan]) -> Plan:
    """One plan whose slot s does what plan s does. Each plan must have one slot.

    Edits of one kind at one door share a bank where each plan's own order at the door allows it, so many dials of
    one circuit cost one multiply.
    """
    doors: dict[Door, list[tuple[type[Bank], list[Bank | None]]]] = {}
    for number, plan in enumerate(plans):
        reached: dict[Door, int] = {}
        for door, bank in plan.edits:
            shared = doors.setdefault(door, [])
            start = reached.get(door, 0)
            place = next((n for n in range(start, len(shared)) if shared[n][0] is type(bank)), None)
            if place is None:
                place = start
                shared.insert(place, (type(bank), [None] * len(plans)))
            shared[place][1][number] = bank
            reached[door] = place + 1
    edits = [(door, _side_by_side(banks)) for door, shared in doors.items() for _, banks in shared]
    return Plan(tuple(edits), len(plans))


def _side_by_side(banks: Sequence[Bank | None]) -> Bank:
    """Banks of one kind as one bank, a slot each; None changes nothing."""
    model = next(bank for bank in banks if bank is not None)
    filled = [model.neutral() if bank is None else bank for bank in banks]
    parts = zip(*(bank.tensors() for bank in filled), strict=True)
    return model.with_tensors([torch.cat(part, dim=1) for part in parts])


def compose(plans: Sequence[Plan]) -> Plan:
    """One plan that does all of the given ones: doses at one site add, other edits follow one another."""
    rows = {plan.rows for plan in plans if plan.rows is not None}
    slots = max((plan.slots for plan in plans), default=1)
    doses: dict[Door, Tensor] = {}
    others: list[tuple[Door, Bank]] = []
    for plan in plans:
        for door, bank in plan.edits:
            if isinstance(bank, Multiply):
                doses[door] = doses[door] + bank.doses if door in doses else bank.doses
            else:
                others.append((door, _widened(bank, slots)))
    first = [(door, _widened(Multiply(dose), slots)) for door, dose in doses.items()]
    return Plan((*first, *others), slots, next(iter(rows), None))


def _widened(bank: Bank, slots: int) -> Bank:
    return bank.with_tensors([tensor.expand(-1, slots, *tensor.shape[2:]) for tensor in bank.tensors()])


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
