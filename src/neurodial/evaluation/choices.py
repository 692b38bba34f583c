"""Log-probabilities of given choices after a prompt, many prompts and many interventions at once.

Only the positions that predict a choice's tokens meet the vocabulary: for one letter that is one position a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from neurodial.activations.batches import TOKEN_BUDGET
from neurodial.errors import PromptError
from neurodial.generation.branches import Branch, Ends, branch_states
from neurodial.generation.per_row import Under, one_each, row_slots
from neurodial.generation.running_engine import continuations, engine_of
from neurodial.margins.margin import begins, rows_of
from neurodial.model.head import log_probs, to_float64
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.render import Tokens, check_context

_CELLS = 256  # predictions whose whole vocabulary is in memory at once


@dataclass(frozen=True)
class AskedChoices:
    """A prompt and the choices that may follow it.

    Attributes:
        prompt: its tokens.
        choices: the tokens of each choice, at least one.
        family: prompts of one family begin alike, such as those of one subject; what they share is run once.
    """

    prompt: Tokens
    choices: tuple[Tokens, ...]
    family: int

    @property
    def rows(self) -> tuple[Tokens, ...]:
        """What is run to read every choice."""
        return rows_of(self.prompt, self.choices)


@torch.no_grad()
def choice_log_probs(
    subject: Subject,
    asked: Sequence[AskedChoices],
    *,
    under: Under = None,
    budget: int = TOKEN_BUDGET,
    progress: Progress = silent,
) -> list[tuple[float, ...]]:
    """Log-probability in nats of each choice of each prompt, over the whole vocabulary, in the order given.

    Inside a `with steer(...)` block that steering acts too.

    Args:
        subject: the model.
        asked: prompts and choices.
        under: an intervention for all, or one (or None) for each; different ones share a batch.
        budget: tokens of one batch.
        progress: shown while it runs.

    Raises:
        ContextLengthError: a prompt with a choice is longer than the context.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [(first, second)] = choice_log_probs(tiny_subject(), [AskedChoices((256, 40, 41), ((50,), (51, 52)), 0)])
        >>> first < 0 and second < 0
        True
    """
    each = one_each(under, len(asked))
    rows = [question.rows for question in asked]
    check_context([len(row) for own in rows for row in own], subject.context_length)
    engine = engine_of(subject)
    if engine is not None:
        prompts, choices = [question.prompt for question in asked], [question.choices for question in asked]
        return [tuple(values) for values in continuations(engine, prompts, choices, each, progress)]
    sums = [[0.0] * len(question.choices) for question in asked]
    with row_slots(subject, each) as (steering, slots), progress("scoring choices", sum(map(len, rows))) as advance:
        owners: dict[tuple[int, int], list[tuple[int, Tokens]]] = {}
        for number, question in enumerate(asked):
            owners.setdefault((question.family, slots[number]), []).extend((number, row) for row in rows[number])
        branches = [
            Branch(tuple(row for _, row in own), tuple(len(asked[n].prompt) for n, _ in own), slot)
            for (_, slot), own in owners.items()
        ]
        members = [[number for number, _ in own] for own in owners.values()]
        for ends in branch_states(subject, steering, branches, budget=budget):
            cells = _cells(ends, asked, branches, members)
            for value, (number, choice) in zip(_read(subject, ends, cells), cells[1], strict=True):
                sums[number][choice] += value
            advance(len(ends.rows))
    return [tuple(values) for values in sums]


_Cells = tuple[list[tuple[int, int, int]], list[tuple[int, int]]]
"""Predictions to read, (row of the batch, place, token), and the prompt and the choice that each belongs to."""


def _cells(
    ends: Ends, asked: Sequence[AskedChoices], branches: Sequence[Branch], members: Sequence[Sequence[int]]
) -> _Cells:
    cells: list[tuple[int, int, int]] = []
    belongs: list[tuple[int, int]] = []
    for place, (branch, row) in enumerate(ends.rows):
        number, tokens = members[branch][row], branches[branch].rows[row]
        question = asked[number]
        first = len(question.prompt) - 1 - ends.start
        for choice, choice_tokens in enumerate(question.choices):
            reader = next(other for other in question.rows if begins(choice_tokens[:-1], other[len(question.prompt) :]))
            if reader == tokens:
                cells += [(place, first + step, token) for step, token in enumerate(choice_tokens)]
                belongs += [(number, choice)] * len(choice_tokens)
    return cells, belongs


def _read(subject: Subject, ends: Ends, cells: _Cells) -> list[float]:
    values: list[float] = []
    for start in range(0, len(cells[0]), _CELLS):
        rows, places, tokens = torch.tensor(cells[0][start : start + _CELLS], device=ends.hidden.device).T
        table = log_probs(subject, ends.hidden[rows, places])
        values += to_float64(table.gather(1, tokens[:, None])[:, 0]).tolist()
    return values


def encode(subject: Subject, prompts: Sequence[str], choices: Sequence[Sequence[str]]) -> list[AskedChoices]:
    """Prompts and choices as tokens, the tokenizer seeing each prompt and choice in one piece; each its own family.

    Raises:
        PromptError: nothing is left of a choice after tokenising.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [question] = encode(tiny_subject(), ["Answer:"], [[" A", " B"]])
        >>> len(question.prompt), [len(choice) for choice in question.choices]
        (8, [2, 2])
    """
    starts = [subject.encode(prompt) for prompt in prompts]
    texts = [prompt + choice for prompt, own in zip(prompts, choices, strict=True) for choice in own]
    wholes = map(subject.encode, texts)
    encoded = []
    for family, (prompt, start, own) in enumerate(zip(prompts, starts, choices, strict=True)):
        rows = [next(wholes) for _ in own]
        shared = min(_common(start, row) for row in rows)
        if shared < 1 or any(len(row) <= shared for row in rows):
            raise PromptError(
                f"Nothing is scored of one of {list(own)} after {prompt[-40:]!r}.", wanted="a prompt and its choices"
            )
        encoded.append(AskedChoices(tuple(start[:shared]), tuple(tuple(row[shared:]) for row in rows), family))
    return encoded


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    shorter = min(len(first), len(second))
    return next((place for place in range(shorter) if first[place] != second[place]), shorter)
