"""Several plans as one: side by side in slots, or all at once.

Where an intervention has a condition on the prompt, its slot has a column of settings for each outcome: the conditions
of interventions that act together give `2^n` of them, each the sum of what acts in that outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from torch import Tensor, cat, zeros_like

from neurodial.circuit.prompt_condition import PromptCondition
from neurodial.errors import SteeringError
from neurodial.intervention.plan import Choice, HookPoint, Multiply, Plan, SlottedEdit
from neurodial.intervention.when import First

MOST_CONDITIONS = 6
"""That act together in one slot: each doubles the settings."""


def only_where(plan: Plan, condition: PromptCondition) -> Plan:
    """A plan that acts only on prompts on which a condition holds; on the others it changes nothing, bit for bit."""
    edits = [
        (point, edit.with_tensors([cat([tensor, zeros_like(tensor[:, :1])], dim=1) for tensor in edit.tensors()]))
        for point, edit in plan.edits
    ]
    choices = tuple(Choice((condition,), (plan.slots, slot)) for slot in range(plan.slots))
    return Plan(tuple(edits), plan.slots, plan.rows, plan.first, choices)


def stack(plans: Sequence[Plan]) -> Plan:
    """One plan whose slot s does what plan s does. Each plan must have one slot.

    Edits of one kind at one point become one where each plan's own order at the point allows it, so many dials of
    one circuit cost one multiply.

    Raises:
        SteeringError: plans are limited to different numbers of generated tokens.
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
    choices: list[Choice] = []
    columns: list[int] = []
    for plan in plans:
        own = plan.choice(0)
        choices.append(Choice(own.conditions, tuple(sum(columns) + column for column in own.columns)))
        columns.append(1 + max(own.columns))
    edits = [(point, _side_by_side(own, columns)) for point, shared in points.items() for _, own in shared]
    return Plan(tuple(edits), len(plans), None, _one_first(plans), _where_needed(choices))


def _side_by_side(edits: Sequence[SlottedEdit | None], columns: Sequence[int]) -> SlottedEdit:
    """Edits of one kind as one edit, each with its columns; None changes nothing."""
    template = next(edit for edit in edits if edit is not None)
    filled = [template.neutral(own) if edit is None else edit for edit, own in zip(edits, columns, strict=True)]
    settings = zip(*(edit.tensors() for edit in filled), strict=True)
    return template.with_tensors([cat(tensors, dim=1) for tensors in settings])


def compose(plans: Sequence[Plan]) -> Plan:
    """One plan that makes the edits of all given ones: doses at one site add, other edits act one after the other.

    Raises:
        SteeringError: plans are limited to different numbers of generated tokens, or too many conditions act together.
    """
    rows = {plan.rows for plan in plans if plan.rows is not None}
    slots = max((plan.slots for plan in plans), default=1)
    choices, columns = _outcomes(plans, slots)
    doses: dict[HookPoint, Tensor] = {}
    others: list[tuple[HookPoint, SlottedEdit]] = []
    for plan, chosen in zip(plans, columns, strict=True):
        for point, edit in plan.edits:
            own = edit.columns(chosen)
            if isinstance(own, Multiply):
                doses[point] = doses[point] + own.doses if point in doses else own.doses
            else:
                others.append((point, own))
    first = [(point, Multiply(dose)) for point, dose in doses.items()]
    return Plan((*first, *others), slots, next(iter(rows), None), _one_first(plans), _where_needed(choices))


def _outcomes(plans: Sequence[Plan], slots: int) -> tuple[list[Choice], list[list[int]]]:
    """The choice of each slot of several plans at once; and for each column, the column of each plan, by plan."""
    choices: list[Choice] = []
    by_plan: list[list[int]] = [[] for _ in plans]
    made = 0
    for slot in range(slots):
        own = [plan.choice(slot if plan.slots > 1 else 0) for plan in plans]
        conditions = tuple(dict.fromkeys(condition for choice in own for condition in choice.conditions))
        if len(conditions) > MOST_CONDITIONS:
            raise SteeringError(
                f"{len(conditions)} circuits with different conditions act together.",
                wanted=f"at most {MOST_CONDITIONS}",
                fix="Give circuits that act on the same prompts one condition.",
            )
        outcomes = [tuple(reversed(bits)) for bits in product((False, True), repeat=len(conditions))]
        for outcome in outcomes:
            holds = dict(zip(conditions, outcome, strict=True))
            for columns, choice in zip(by_plan, own, strict=True):
                columns.append(choice.column(holds))
        choices.append(Choice(conditions, tuple(range(made, made + len(outcomes)))))
        made += len(outcomes)
    return choices, by_plan


def _where_needed(choices: Sequence[Choice]) -> tuple[Choice, ...] | None:
    return tuple(choices) if any(choice.conditions for choice in choices) else None


def _one_first(plans: Sequence[Plan]) -> First | None:
    firsts = {plan.first for plan in plans if plan.first is not None}
    if len(firsts) > 1:
        shown = " and ".join(str(first.tokens) for first in sorted(firsts))
        raise SteeringError(
            f"Interventions that share a batch act on the first {shown} tokens, or count them from different places.",
            wanted="one number of tokens, counted from the prompt's end or from each part's begin",
        )
    return next(iter(firsts), None)
