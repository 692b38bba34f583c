"""Answers of several conditions to the same prompts, side by side in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from neurodial.cli.console import out

if TYPE_CHECKING:
    from neurodial.evaluation.store import Answers


def print_side_by_side(answers: Answers, prompt_set: str, labels: Sequence[str], count: int) -> None:
    """Print the first answers of a set of prompts, a column for each condition.

    Args:
        answers: of a run.
        prompt_set: `behaviour` or `opposite`.
        labels: of the conditions, as rows are stored under them.
        count: at most so many prompts.
    """
    rows = [row for row in answers.generations if row.set == prompt_set]
    for number in range(count):
        row_of = {row.condition: row for row in rows if row.index == number}
        if not row_of:
            return
        table = Table(*labels, show_lines=True, expand=True)
        table.add_row(*(Text(" ".join(row_of[label].answer.split())) for label in labels))
        out.print(Text(row_of[labels[0]].prompt, style="bold"))
        out.print(table)
