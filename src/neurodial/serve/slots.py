"""Which slot of the steering holds which setting of the dials.

Every setting is compiled with all circuits in it, at dial 0 those that were not asked for. So all plans have the
same hook points in the same order, and a new setting exchanges buffers, never hooks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from neurodial.circuit.circuit import Circuit
from neurodial.intervention.base import Together
from neurodial.intervention.combine import stack
from neurodial.intervention.plan import Plan
from neurodial.intervention.scale import Scale
from neurodial.intervention.steer import Steering
from neurodial.intervention.when import When
from neurodial.model.subject import Subject

Dials = tuple[float, ...]


def plan_of(
    subject: Subject, circuits: Sequence[Circuit], dials: Dials, *, when: When = "all", force: bool = False
) -> Plan:
    """The plan of one setting.

    Raises:
        ModelMismatchError: a circuit was made on another model and `force` is false.
        SteeringError: the model has no such neuron.
    """
    parts = (Scale(circuit, dial, when, force) for circuit, dial in zip(circuits, dials, strict=True))
    return Together(tuple(parts)).compile(subject)


class SlotTable:
    """Settings in slots. The least recently used make room, but none that a row still uses."""

    def __init__(
        self, subject: Subject, circuits: Sequence[Circuit], *, size: int, when: When = "all", force: bool = False
    ) -> None:
        self._subject, self._circuits, self._when, self._force = subject, tuple(circuits), when, force
        self._size = size
        plain = (0.0,) * len(circuits)
        self._plans: dict[Dials, Plan] = {plain: plan_of(subject, self._circuits, plain, when=when, force=force)}

    @property
    def plan(self) -> Plan:
        """All settings, a slot each."""
        return stack(list(self._plans.values()))

    def hold(self, rows: Iterable[Dials], steering: Steering) -> None:
        """Have slots for these settings; those of other rows are forgotten only where there are too many."""
        settings = dict.fromkeys(rows)
        missing = [dials for dials in settings if dials not in self._plans]
        if not missing:
            return
        idle = [dials for dials in self._plans if dials not in settings]
        for dials in idle[: max(0, len(self._plans) + len(missing) - self._size)]:
            del self._plans[dials]
        for dials in missing:
            self._plans[dials] = plan_of(self._subject, self._circuits, dials, when=self._when, force=self._force)
        steering.assign(None)
        steering.replace(self.plan)

    def slots(self, rows: Sequence[Dials]) -> list[int]:
        """The slot of each row's setting."""
        places = {dials: place for place, dials in enumerate(self._plans)}
        return [places[dials] for dials in rows]
