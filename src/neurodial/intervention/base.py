"""The interface of every intervention, and the composition of several."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from neurodial.errors import OptionError, SteeringError
from neurodial.intervention.combine import compose
from neurodial.intervention.plan import HookPoint, Plan, SlottedEdit
from neurodial.intervention.when import When, read_when
from neurodial.model.subject import Subject
from neurodial.text.thinking import THINKING, TOOLS

Dial = float | Sequence[float]
MAX_DIAL = 100.0


class Intervention(ABC):
    """A change of a model's activations, with one dial: 0 is the unsteered model, 1 the full change.

    Attributes:
        dial: one number, or one for each row of a batch.
        when: `all` tokens, those of the `prompt`, the `generated` ones; or of the generated ones only
            `thinking`, the `answer` after it, or calls of `tools`. With `:k` (`generated:8`, `answer:8`) only the first
            k tokens that are generated, or the first k of that part.
    """

    dial: Dial
    when: When

    @abstractmethod
    def compile(self, subject: Subject) -> Plan:
        """The edits that this makes on a model.

        Raises:
            SteeringError: it can't be put on this model.
        """

    def __add__(self, other: Intervention) -> Together:
        """Both at once."""
        return Together((*_parts(self), *_parts(other)))


@dataclass(frozen=True)
class Together(Intervention):
    """Several interventions at once: doses on one neuron add, other changes act one after the other.

    Example:
        >>> Together(()).parts
        ()
    """

    parts: tuple[Intervention, ...]
    dial: Dial = 1.0
    when: When = "all"

    def compile(self, subject: Subject) -> Plan:
        """The composed plan of the parts.

        Raises:
            SteeringError: the parts are made for batches of different sizes.
        """
        plans = [intervention.compile(subject) for intervention in self.parts]
        rows = {plan.rows for plan in plans if plan.rows is not None}
        if len(rows) > 1:
            raise SteeringError(
                f"The interventions have dials for {' and '.join(map(str, sorted(rows)))} rows.",
                wanted="as many dials in each, or a single one",
            )
        return compose(plans)


def at_dial(intervention: Intervention, dial: float) -> Intervention:
    """The same intervention at another dial; each part of a composed one is set to it."""
    if isinstance(intervention, Together):
        return Together(tuple(at_dial(inner, dial) for inner in intervention.parts))
    fields: dict[str, Any] = {"dial": dial}
    return replace(intervention, **fields)  # type: ignore[type-var]


def check_options(dial: Dial, when: When) -> None:
    """Refuse dials that are not finite or are too large, and phases that do not exist.

    Raises:
        OptionError: names the dial and the range.
        UnknownNameError: names what `when` should be.
    """
    for value in _values(dial):
        if not math.isfinite(value) or abs(value) > MAX_DIAL:
            raise OptionError(f"The dial is {value}.", wanted=f"a number from -{MAX_DIAL:g} to {MAX_DIAL:g}")
    if isinstance(dial, Sequence) and not dial:
        raise OptionError("The list of dials is empty.", wanted="a number for each row")
    read_when(when)


def check_parts(when: When, subject: Subject) -> None:
    """Refuse to limit steering to a part of answers that has no markers in this model.

    Raises:
        SteeringError: names the part, and where its markers were searched for.
    """
    part = when.partition(":")[0]
    known = {"thinking": THINKING, "tools": TOOLS}.get(part)
    if known is None or subject.markers(known):
        return
    raise SteeringError(
        f"Nothing marks {part} in {subject.label}: neither its chat template nor its tokenizer names such a marker.",
        wanted=f"one such as {known[0].begin} and {known[0].end}",
        fix="Name them with --thinking-markers (Template(thinking_markers=...))."
        if part == "thinking"
        else "Steer the answer or all that is generated instead.",
    )


def planned(edits: Sequence[tuple[HookPoint, SlottedEdit]], dial: Dial, when: When) -> Plan:
    """The plan of edits at the dials that an intervention has, for its tokens."""
    return Plan(tuple(edits), len(_values(dial)), rows_of(dial), read_when(when).first)


def dial_column(dial: Dial) -> Tensor:
    """Dials as a column (slot, 1) in float64."""
    return torch.tensor(_values(dial), dtype=torch.float64)[:, None]


def over(column: Tensor, values: Tensor) -> Tensor:
    """Dials (slot, 1) times values over a site: (slot, neuron) or (slot, expert, neuron)."""
    return column.reshape(-1, *([1] * values.dim())) * values


def rows_of(dial: Dial) -> int | None:
    """How many rows the dials are for; None where one dial is for all."""
    return len(dial) if isinstance(dial, Sequence) else None


def _values(dial: Dial) -> list[float]:
    return [float(value) for value in dial] if isinstance(dial, Sequence) else [float(dial)]


def _parts(intervention: Intervention) -> tuple[Intervention, ...]:
    return intervention.parts if isinstance(intervention, Together) else (intervention,)
