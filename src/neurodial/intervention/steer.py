"""Putting interventions on a model for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from neurodial.errors import SteeringError
from neurodial.intervention.base import Intervention, Together
from neurodial.intervention.combine import stack
from neurodial.intervention.decide import Outcomes, PromptDecisions
from neurodial.intervention.parts_of_pass import PartsOfPass
from neurodial.intervention.plan import HookPoint, Plan, SlotIndex, SlottedEdit, phases_of
from neurodial.model.experts import RoutedEdit, Visits
from neurodial.model.hooks import (
    DecoderPass,
    Edit,
    Handle,
    installed,
    on_block_output,
    on_embedding,
    on_experts,
    on_neurons,
    on_pass,
    on_write,
    refuse_compiled,
)
from neurodial.model.subject import Subject
from neurodial.text.answer_parts import PartTracker


class Steering:
    """A steered model: sets which row of the next batch uses which slot, and where prompts end."""

    def __init__(self, plan: Plan, subject: Subject) -> None:
        self._label = subject.label
        self._placed: dict[tuple[int, torch.device, torch.dtype], SlottedEdit] = {}
        self._chosen: dict[tuple[int, int, torch.device, torch.dtype], tuple[Tensor, ...]] = {}
        self._columns: dict[tuple[int, torch.device, torch.dtype], tuple[Tensor, SlottedEdit]] = {}
        self._indices: dict[tuple[int, torch.device], SlotIndex] = {}
        self._assigned: tuple[int, ...] | None = None
        self._boundary: tuple[int, ...] | None = None
        self._shape = (0, 0, 0)
        self._followed: tuple[PartTracker, ...] | None = None
        self._parts = PartsOfPass(subject)
        self._decisions = PromptDecisions(subject)
        self._set(plan)

    def assign(self, slots: Sequence[int] | None) -> None:
        """Row r of the next batches uses slot `slots[r]`; None: row r uses slot r, or all rows the only one.

        Raises:
            SteeringError: a slot does not exist.
        """
        _check_slots(slots, self.plan)
        self._assigned = None if slots is None else tuple(slots)
        self._forget()

    def mark_prompts(self, lengths: Sequence[int] | None) -> None:
        """Row r's tokens from place `lengths[r]` on count as generated (places count padding and cache).

        None: the pass that fills an empty cache is the prompt, every later one is generated. Generation without a
        cache fills an empty one with every pass, so it needs the mark; `neurodial.generate` sets it.
        """
        self._boundary = None if lengths is None else tuple(lengths)
        self._forget()

    @property
    def follows_parts(self) -> bool:
        """Whether some steering is limited to a part of answers."""
        return not self._ignores_parts

    def follow(self, trackers: Sequence[PartTracker] | None) -> None:
        """Row r of the next passes is the answer that `trackers[r]` follows; None: each prompt begins new answers.

        Only steering that is limited to a part of answers (`when` thinking, answer or tools) or to its first tokens
        uses it.
        """
        self._followed = None if trackers is None else tuple(trackers)

    @property
    def has_conditions(self) -> bool:
        """Whether some steering acts only on prompts on which a condition holds."""
        return self.plan.choices is not None

    @property
    def needs_whole_prompts(self) -> bool:
        """Whether each row's prompt must pass in one piece, by itself: then beginnings can't be shared."""
        return self.follows_parts or self.has_conditions

    @property
    def outcomes(self) -> tuple[Outcomes, ...]:
        """For each row of the last prompts that passed, which of its conditions hold."""
        return self._decisions.outcomes if self.has_conditions else ()

    def recall(self, outcomes: Sequence[Outcomes]) -> None:
        """Row r of the next passes is the one for which `outcomes[r]` was decided when its prompt passed."""
        if self.has_conditions:
            self._decisions.recall(outcomes)
            self._forget()

    def replace(self, plan: Plan) -> None:
        """Exchange the settings for those of a plan with the same hook points in the same order; no hook changes.

        Raises:
            SteeringError: the hook points differ, or a slot that `assign` has given to a row does not exist in it.
        """
        if [point for point, _ in plan.edits] != [point for point, _ in self.plan.edits]:
            raise SteeringError("The new plan edits other places.", wanted="the same hook points in the same order")
        _check_slots(self._assigned, plan)
        self._set(plan)

    def look(self, fed: DecoderPass) -> None:
        """Note the pass that begins."""
        if self._decisions.is_reading:
            return
        self._shape = (fed.rows, fed.tokens, fed.cached)
        if self.has_conditions:
            self._forget()
            torch.compiler.disable(self._decide)(fed)
        if not self._ignores_phase:
            self._forget()
        if not self._ignores_parts:
            torch.compiler.disable(self._parts.look)(
                fed.cached, fed.ids, self._boundary, self._followed, self.plan.first
            )

    def edit(self, number: int) -> Edit:
        """The function that makes the plan's edit of the given number."""

        def apply(hidden: Tensor) -> Tensor:
            if self._decisions.is_reading:
                return hidden
            key = (number, hidden.shape[0], hidden.device, hidden.dtype)
            settings = self._chosen.get(key)
            if (
                settings is None
            ):  # chosen once, outside the compiler, which handles neither inference mode nor shape checks
                settings = self._chosen[key] = torch.compiler.disable(self._choose)(number, hidden)
            return self.plan.edits[number][1].apply(hidden, *settings)

        return apply

    def edit_experts(self, number: int) -> RoutedEdit:
        """The same where the edit is at routed experts; the settings of each visit are looked up at every pass.

        An experts module sees many more rows than a dense MLP, each with settings of its own: those neurons alone are
        looked up and edited that are set in some expert.
        """

        def apply(neurons: Tensor, visits: Visits) -> Tensor:
            if self._decisions.is_reading:
                return neurons
            places, edit = self._placed_columns(number, neurons)
            if not len(places):
                return neurons
            index = self._index(visits.shape[0], neurons.device)
            chosen = (index.of_visits(tensor, visits) for tensor in edit.tensors())
            return neurons.index_copy(1, places, edit.apply(neurons.index_select(1, places), *chosen))

        return apply

    def _set(self, plan: Plan) -> None:
        self.plan = plan
        self._ignores_phase = plan.ignores_phase
        self._ignores_parts = plan.ignores_parts
        self._placed.clear()
        self._columns.clear()
        self._forget()

    def _forget(self) -> None:
        self._chosen.clear()
        self._indices.clear()

    def _placed_edit(self, number: int, hidden: Tensor) -> SlottedEdit:
        key = (number, hidden.device, hidden.dtype)
        edit = self._placed.get(key)
        if edit is None:
            edit = self._placed[key] = self.plan.edits[number][1].to(hidden.device, hidden.dtype)
        return edit

    def _placed_columns(self, number: int, neurons: Tensor) -> tuple[Tensor, SlottedEdit]:
        """The neurons that an edit sets in some expert, and the edit of those."""
        key = (number, neurons.device, neurons.dtype)
        if key not in self._columns:
            with torch.inference_mode(mode=False):  # a later pass may need gradients
                edit = self.plan.edits[number][1]
                is_set = torch.stack([(tensor != 0).flatten(end_dim=-2).any(dim=0) for tensor in edit.tensors()])
                places = is_set.any(dim=0).nonzero()[:, 0]
                chosen = edit.with_tensors([tensor[..., places] for tensor in edit.tensors()])
                self._columns[key] = places.to(neurons.device), chosen.to(neurons.device, neurons.dtype)
        return self._columns[key]

    def _index(self, rows: int, device: torch.device) -> SlotIndex:
        """Which setting each cell uses; kept until rows, phases or dials change."""
        key = (rows, device)
        if key not in self._indices:
            with torch.inference_mode(mode=False):  # a later pass may need gradients
                self._indices[key] = self._slot_index(rows, device)
        return self._indices[key]

    def _choose(self, number: int, hidden: Tensor) -> tuple[Tensor, ...]:
        """The settings of an edit for the cells of a batch; cached until rows, phases or dials change."""
        with torch.inference_mode(mode=False):  # a later pass may need gradients
            index = self._slot_index(hidden.shape[0], hidden.device)
            return tuple(index.of(tensor) for tensor in self._placed_edit(number, hidden).tensors())

    def _slot_index(self, rows: int, device: torch.device) -> SlotIndex:
        _, tokens, cached = self._shape
        boundary = None
        if self._boundary is not None:
            boundary = _spread_over(self._boundary, rows, self._label)
        phase: int | Tensor = 0
        if not self._ignores_parts:
            phase = self._parts.phases(device)
        elif not self._ignores_phase:
            phase = phases_of(cached, tokens, boundary, device)
        columns = slots = self._slots(rows)
        if slots is None:
            return SlotIndex(phase, 0)
        if self.has_conditions:
            decided = zip(slots, self._decisions.outcomes, strict=True)
            columns = [self.plan.choice(slot).column(outcomes) for slot, outcomes in decided]
        return SlotIndex(phase, torch.tensor(columns, device=device))

    def _slots(self, rows: int) -> list[int] | None:
        """The slot of each row; None where all rows use the only one, without a condition."""
        slots = self._assigned
        if slots is None and (self.plan.slots > 1 or self.has_conditions):
            slots = tuple(range(self.plan.slots))
        return None if slots is None else _spread_over(slots, rows, self._label)

    def _decide(self, fed: DecoderPass) -> None:
        boundary = None if self._boundary is None else _spread_over(self._boundary, fed.rows, self._label)
        choices = [self.plan.choice(slot) for slot in self._slots(fed.rows) or ()]
        self._decisions.look(fed, choices, boundary)


@contextmanager
def steer(subject: Subject, *interventions: Intervention) -> Iterator[Steering]:
    """Steer a model inside a `with` block; afterwards, also after an error, the model is unsteered again.

    Several interventions compose: doses on one neuron add, as stacked adapters do. Blocks may be nested; an inner
    block acts on the result of the outer one, so the multipliers of two blocks on one neuron multiply. A dial given as
    a list steers row r of each batch by its r-th number.

    Raises:
        ModelMismatchError: a circuit was made on another model.
        SteeringError: an intervention can't be put on this model, or the model is already compiled.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject = tiny_subject()
        >>> with steer(subject) as steering:
        ...     steering.plan.slots
        1
    """
    with steered(subject, Together(interventions).compile(subject)) as steering:
        yield steering


@contextmanager
def steer_each(subject: Subject, interventions: Sequence[Intervention]) -> Iterator[Steering]:
    """Steer with a different intervention in each slot; `assign` says which row of a batch uses which."""
    plans = [intervention.compile(subject) for intervention in interventions]
    if any(plan.slots != 1 for plan in plans):
        raise SteeringError("One of several interventions has a list of dials.", wanted="one dial in each of them")
    with steered(subject, stack(plans)) as steering:
        yield steering


@contextmanager
def steered(subject: Subject, plan: Plan) -> Iterator[Steering]:
    """Install a plan's edits for the length of a block."""
    if plan.edits:
        refuse_compiled(subject)
    steering = Steering(plan, subject)

    def install(handles: list[Handle]) -> None:
        if plan.edits:
            handles.append(on_pass(subject, steering.look))
        for number, (point, _) in enumerate(plan.edits):
            if point.routed:
                handles.append(on_experts(subject, point.layer, steering.edit_experts(number)))
            else:
                handles.append(_install_edit(subject, point, steering.edit(number)))

    with installed(install):
        yield steering


def _install_edit(subject: Subject, point: HookPoint, edit: Edit) -> Handle:
    if point.kind == "neurons":
        return on_neurons(subject, point.site, edit)
    if point.kind == "block":
        return on_block_output(subject, point.layer, edit)
    if point.kind == "embedding":
        return on_embedding(subject, edit)
    return on_write(subject, point.layer, point.kind, edit)


def _check_slots(slots: Sequence[int] | None, plan: Plan) -> None:
    if slots is not None and not all(0 <= slot < plan.slots for slot in slots):
        raise SteeringError(f"The slots are {list(slots)}.", wanted=f"0 to {plan.slots - 1}")


def _spread_over(values: Sequence[int], rows: int, label: str) -> list[int]:
    """Values for each row of a batch; beams and several answers per prompt repeat each prompt's value."""
    if rows % len(values):
        raise SteeringError(
            f"A batch of {rows} rows came to {label}, but the dials are for {len(values)}.",
            wanted="one dial, or one for each row",
        )
    return [value for value in values for _ in range(rows // len(values))]
