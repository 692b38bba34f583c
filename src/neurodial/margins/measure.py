"""Margins of many prompts: in batches, with an intervention for each prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from neurodial.activations.batches import TOKEN_BUDGET
from neurodial.activations.collect import pad_id
from neurodial.activations.groups import group_batches
from neurodial.generation.branches import Branch, branch_states
from neurodial.generation.per_row import Under, one_each, row_slots
from neurodial.generation.running_engine import RunningEngine, continuations, engine_of
from neurodial.generation.states import Rows, row_states
from neurodial.intervention.base import Intervention
from neurodial.intervention.steer import Steering
from neurodial.kept import KeptForm, kept
from neurodial.margins.margin import Margin, Openers, log_probs_of
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Example
from neurodial.prompts.render import Tokens, check_context


@torch.no_grad()
def measure_margins(
    subject: Subject,
    margin: Margin,
    examples: Sequence[Example],
    *,
    under: Under = None,
    system: str | None = None,
    budget: int = TOKEN_BUDGET,
    progress: Progress = silent,
) -> list[float]:
    """The margin of each prompt, in nats, in the order given.

    Inside a `with steer(...)` block that steering acts too.

    Args:
        subject: the model.
        margin: what is measured.
        examples: the prompts.
        under: an intervention for all prompts, or one (or None) for each; different ones share a batch.
        system: a system message before every prompt.
        budget: tokens of one batch.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt with an answer is longer than the context.
        MarginError: a prompt lacks what the margin reads.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [value] = measure_margins(tiny_subject(), Openers.of([(40,)]), [Example("Hello")])
        >>> value < 0
        True
    """
    rows = measure_together(subject, [margin], examples, under=under, system=system, budget=budget, progress=progress)
    return [value for (value,) in rows]


def _unpacked(rows: list[list[float]], _: object, __: object) -> list[tuple[float, ...]]:
    return [tuple(row) for row in rows]


@kept("margins", KeptForm(lambda values: (values, {}), _unpacked))
@torch.no_grad()
def measure_together(
    subject: Subject,
    margins: Sequence[Margin],
    examples: Sequence[Example],
    *,
    under: Under = None,
    system: str | None = None,
    budget: int = TOKEN_BUDGET,
    progress: Progress = silent,
) -> list[tuple[float, ...]]:
    """Several margins of each prompt, as `measure_margins` gives one; rows that they share are run once.

    Raises:
        ContextLengthError: a prompt with an answer is longer than the context.
        MarginError: a prompt lacks what a margin reads.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> margins = [Openers.of([(40,)]), Openers.of([(41,), (40,)])]
        >>> [(first, second)] = measure_together(tiny_subject(), margins, [Example("Hello")])
        >>> first < second
        True
    """
    engine = engine_of(subject)
    if engine is not None:
        each = one_each(under, len(examples))
        by_margin = [_in_engine(engine, subject, margin, examples, each, system, progress) for margin in margins]
        return list(zip(*by_margin, strict=True))
    values: list[tuple[float, ...]] = [()] * len(examples)
    for number, read in _states(subject, margins, examples, under, system, budget, progress):
        values[number] = tuple(
            float(margin.value(subject, *states)) for margin, states in zip(margins, read, strict=True)
        )
    return values


def _in_engine(
    engine: RunningEngine,
    subject: Subject,
    margin: Margin,
    examples: Sequence[Example],
    each: Sequence[Intervention | None],
    system: str | None,
    progress: Progress,
) -> list[float]:
    """A margin of each prompt where an engine runs the model: from how likely its continuations are."""
    prompts = subject.render([example.prompt for example in examples], system=system)
    asked = [margin.continuations(subject, example) or () for example in examples]
    lengths = [len(prompt) + len(row) for prompt, of in zip(prompts, asked, strict=True) for row in of]
    check_context(lengths, subject.context_length)
    found = continuations(engine, prompts, asked, each, progress)
    return [
        float(margin.combined(of, [torch.tensor(value, dtype=torch.float64) for value in values]))
        for of, values in zip(asked, found, strict=True)
    ]


def probabilities_by_side(
    subject: Subject,
    margin: Margin,
    contrast: Contrast,
    under: Sequence[Intervention | None],
    *,
    budget: int = TOKEN_BUDGET,
    progress: Progress = silent,
) -> list[tuple[float, float]]:
    """The mean probability whose log odds a margin is, on the positive and on the negative prompts, under each.

    Raises:
        ContextLengthError: a prompt with an answer is longer than the context.
        MarginError: a prompt lacks what the margin reads.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> contrast = Contrast.of(["harm one", "harm two"], ["help one", "help two"])
        >>> [(shown, spilled)] = probabilities_by_side(tiny_subject(), Openers.of([(40,)]), contrast, [None])
        >>> 0 < shown < 1
        True
    """
    both = [*contrast.positive, *contrast.negative]
    steered = [intervention for intervention in under for _ in both]
    margins = measure_margins(subject, margin, both * len(under), under=steered, budget=budget, progress=progress)
    rates = [probability(margin) for margin in margins]
    count = len(contrast.positive)
    conditions = [rates[start : start + len(both)] for start in range(0, len(rates), len(both))]
    return [(fmean(rates_of_both[:count]), fmean(rates_of_both[count:])) for rates_of_both in conditions]


def probability(margin: float) -> float:
    """The probability whose log odds a margin is.

    Example:
        >>> probability(0.0)
        0.5
    """
    return float(torch.tensor(margin, dtype=torch.float64).sigmoid())


@torch.no_grad()
def opening_probabilities(
    subject: Subject,
    openers: Openers,
    examples: Sequence[Example],
    *,
    system: str | None = None,
    budget: int = TOKEN_BUDGET,
) -> Float[Tensor, "prompt opener"]:
    """The probability that the answer to each prompt begins with each of the openers; float64, on the CPU.

    Raises:
        ContextLengthError: a prompt with an opener is longer than the context.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> opening_probabilities(tiny_subject(), Openers.of([(40,), (41, 42)]), [Example("Hello")]).shape
        torch.Size([1, 2])
    """
    engine = engine_of(subject)
    if engine is not None:
        prompts = subject.render([example.prompt for example in examples], system=system)
        found = continuations(engine, prompts, [openers.tokens] * len(prompts), [None] * len(prompts))
        return torch.tensor(found, dtype=torch.float64).reshape(len(prompts), -1).exp()
    probabilities = torch.zeros(len(examples), len(openers.tokens), dtype=torch.float64)
    for number, [read] in _states(subject, [openers], examples, None, system, budget, silent):
        probabilities[number] = torch.stack(log_probs_of(subject, *read, openers.tokens)).exp().cpu()
    return probabilities


_Read = tuple[tuple[Tokens, ...], list[Tensor], int]
"""What a margin is computed from: its rows, their final hidden states, the prompt's length."""


def _states(
    subject: Subject,
    margins: Sequence[Margin],
    examples: Sequence[Example],
    under: Under,
    system: str | None,
    budget: int,
    progress: Progress,
) -> Iterator[tuple[int, list[_Read]]]:
    """For each prompt, in the order of the batches: what each margin is computed from."""
    prompts = subject.render([example.prompt for example in examples], system=system)
    rows_of_margins = [
        [margin.rows(subject, *pair) for margin in margins] for pair in zip(prompts, examples, strict=True)
    ]
    groups = [tuple(dict.fromkeys(row for rows in each for row in rows)) for each in rows_of_margins]
    if not groups:
        return
    each = one_each(under, len(groups))
    check_context([len(row) for group in groups for row in group], subject.context_length)
    from_prompts = all(margin.reads_answers_alone for margin in margins) and any(len(group) > 1 for group in groups)
    run = _from_prompts if from_prompts else _whole
    with row_slots(subject, each) as (steering, slots), progress("measuring margins", len(groups)) as advance:
        branches = [
            Branch(group, (len(prompt),) * len(group), slot)
            for group, prompt, slot in zip(groups, prompts, slots, strict=True)
        ]
        for number, start, states in run(subject, steering, branches, budget):
            yield (
                number,
                [
                    (
                        tuple(row[start:] for row in margin_rows),
                        [states[row] for row in margin_rows],
                        len(prompts[number]) - start,
                    )
                    for margin_rows in rows_of_margins[number]
                ],
            )
            advance(1)


_Found = tuple[int, int, dict[Tokens, Tensor]]
"""A branch's number, how many tokens of its rows come before the states, and each row's states."""


def _whole(subject: Subject, steering: Steering | None, branches: Sequence[Branch], budget: int) -> Iterator[_Found]:
    """Every row from its first token."""
    for batch in group_batches([branch.rows for branch in branches], pad=pad_id(subject), budget=budget):
        owners = [branches[batch.groups[owner]] for owner in batch.owners]
        rows = Rows(batch.tokens, [owner.slot for owner in owners], [owner.prompts[0] for owner in owners])
        hidden = row_states(subject, steering, rows)
        for place, number in enumerate(batch.groups):
            of_group = zip(branches[number].rows, batch.rows_of(place), strict=True)
            yield number, 0, {tokens: hidden[row, : batch.lengths[row]] for tokens, row in of_group}


def _from_prompts(
    subject: Subject, steering: Steering | None, branches: Sequence[Branch], budget: int
) -> Iterator[_Found]:
    """Each prompt but its last token once, and from there every row of it."""
    waiting: dict[int, dict[Tokens, Tensor]] = {}
    for ends in branch_states(subject, steering, branches, budget=budget):
        for place, (number, row) in enumerate(ends.rows):
            tokens = branches[number].rows[row]
            states = waiting.setdefault(number, {})
            states[tokens] = ends.hidden[place, : len(tokens) - ends.start]
            if len(states) == len(branches[number].rows):
                yield number, ends.start, waiting.pop(number)
