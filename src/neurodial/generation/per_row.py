"""Different interventions in the rows of one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from neurodial.errors import OptionError
from neurodial.intervention.base import Intervention, Together
from neurodial.intervention.steer import Steering, steer_each
from neurodial.model.subject import Subject

Under = Sequence[Intervention | None] | Intervention | None
"""An intervention for all rows, or one (or None) for each."""


def one_each(under: Under, count: int) -> list[Intervention | None]:
    """The intervention of each of `count` prompts.

    Raises:
        OptionError: there are not as many interventions as prompts.
    """
    each = [under] * count if under is None or isinstance(under, Intervention) else list(under)
    if len(each) != count:
        raise OptionError(f"{len(each)} interventions came for {count} prompts.", wanted="one for each prompt")
    return each


@contextmanager
def row_slots(subject: Subject, each: Sequence[Intervention | None]) -> Iterator[tuple[Steering | None, list[int]]]:
    """One slot per different intervention, and each prompt's slot; without interventions no steering, and slot 0."""
    if all(intervention is None for intervention in each):
        yield None, [0] * len(each)
        return
    plain = Together(())
    distinct: list[Intervention] = []
    slots = []
    for intervention in each:
        applied = plain if intervention is None else intervention
        place = next((n for n, known in enumerate(distinct) if known is applied or known == applied), len(distinct))
        if place == len(distinct):
            distinct.append(applied)
        slots.append(place)
    with steer_each(subject, distinct) as steering:
        yield steering, slots
