"""A report as a page: the plain values that it is made of. `html_page.py` makes one HTML file of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neurodial.evaluation.intervals import Difference, Estimate

Cell = str | int | float | Estimate | Difference | None
BadgeKind = Literal["shown", "absent", "broken", "other"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        explanation: what the number means and how it is measured; a closed definition under the table.
        is_share: show numbers as per cent, and differences in points.
    """

    name: str
    explanation: str = ""
    is_share: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells. An `Estimate` is shown with its interval and n, a `Difference` with its p-value.

    Attributes:
        columns: headings and explanations.
        rows: one cell for each column.
        caption: one line over the table.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Figure:
    """A plot as SVG text, with what it shows in words.

    Attributes:
        svg: the plot.
        caption: what is seen.
        name: file name, without its ending, for the copy beside the page; no two figures of a page share one.
        data: the plotted numbers as CSV; empty for none.
    """

    svg: str
    caption: str
    name: str = "figure"
    data: str = ""


@dataclass(frozen=True)
class Badge:
    """What the headline detector says of an answer, in a word."""

    kind: BadgeKind
    text: str


@dataclass(frozen=True)
class Shown:
    """One answer of several to the same prompt: under which intervention, the text, and its badge."""

    label: str
    text: str
    badge: Badge | None = None


@dataclass(frozen=True)
class SideBySide:
    """A prompt and its answers.

    Attributes:
        prompt: what was asked.
        answers: one for each intervention.
        is_harmful: whether the answers are left out unless asked for.
    """

    prompt: str
    answers: tuple[Shown, ...]
    is_harmful: bool = False


@dataclass(frozen=True)
class KeyNumber:
    """One of the few numbers at the top.

    Attributes:
        name: what it is.
        value: the number in words.
        small: its interval, its n.
        explanation: what it means and how it is measured; closed.
    """

    name: str
    value: str
    small: str
    explanation: str = ""


@dataclass(frozen=True)
class Copyable:
    """Text to take away: a methods paragraph, a command.

    Attributes:
        name: what it is; the button says `Copy the <name>`.
        text: what is copied.
        is_code: whether it is typed into a terminal.
    """

    name: str
    text: str
    is_code: bool = False


@dataclass(frozen=True)
class ColouredText:
    """A text whose tokens are coloured by a number: orange above 0, blue below, deeper for more.

    Attributes:
        label: what stands before it.
        tokens: text of each token, its number, and the same as a share of the largest, from -1 to 1.
        marked: the token that is meant, or None.
    """

    label: str
    tokens: tuple[tuple[str, float, float], ...]
    marked: int | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is left out.

    Attributes:
        heading: its title.
        text: paragraphs before the rest.
        copyable: text to take away.
        tables: tables.
        figures: plots.
        answers: answers side by side.
        coloured: texts with coloured tokens.
        folded: whether it starts closed.
    """

    heading: str
    text: tuple[str, ...] = ()
    copyable: tuple[Copyable, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    answers: tuple[SideBySide, ...] = ()
    coloured: tuple[ColouredText, ...] = ()
    folded: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing but its heading would be seen."""
        parts = (self.text, self.copyable, self.figures, self.answers, self.coloured)
        return not any(parts) and not any(table.rows for table in self.tables)


@dataclass(frozen=True)
class FirstScreen:
    """What is seen before a reader scrolls.

    Attributes:
        verdict: one sentence.
        numbers: two or three.
        figures: two plots side by side.
        answers: three pairs of answers.
    """

    verdict: str
    numbers: tuple[KeyNumber, ...] = ()
    figures: tuple[Figure, ...] = ()
    answers: tuple[SideBySide, ...] = ()


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: its title.
        first: the first screen.
        sections: its parts.
        about: one line under the title: what was measured on what, and when.
        provenance: what the numbers can be made again from: versions, seeds, hashes.
    """

    title: str
    first: FirstScreen
    sections: tuple[Section, ...]
    about: str = ""
    provenance: tuple[tuple[str, str], ...] = ()

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every plot."""
        return (*self.first.figures, *(figure for section in self.sections for figure in section.figures))
