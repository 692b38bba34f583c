"""A report as a page: plain values in, one HTML file out that needs nothing beside it.

The template escapes everything but the plots, which are made here. Answers to harmful prompts are left out of the
file, not just hidden, unless they are asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from neurodial.evaluation.intervals import Difference, Estimate
from neurodial.files import write_atomic

Cell = str | int | float | Estimate | Difference | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        explanation: what the number means and how it is measured; shown under the table.
        is_share: show numbers as per cent.
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
        name: file name, without its ending, for the copy beside the page.
    """

    svg: str
    caption: str
    name: str = "figure"


@dataclass(frozen=True)
class Shown:
    """One answer of several to the same prompt: under which intervention, the text, what detectors said."""

    label: str
    text: str
    verdict: str = ""


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
class Section:
    """A part of the page; what is empty is left out.

    Attributes:
        heading: its title.
        text: paragraphs before the rest.
        tables: tables.
        figures: plots.
        answers: answers side by side.
        folded: whether it starts closed.
    """

    heading: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    answers: tuple[SideBySide, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: its title.
        lead: paragraphs at the top: what was found, in words.
        sections: its parts.
        provenance: what the numbers can be made again from: versions, seeds, hashes.
    """

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]
    provenance: tuple[tuple[str, str], ...] = ()


def render_page(page: Page, *, show_harmful: bool = False) -> str:
    """The page as HTML.

    Args:
        page: what it holds.
        show_harmful: put the answers to harmful prompts in too.

    Example:
        >>> html = render_page(Page("Report", ("A < B",), ()))
        >>> "A &lt; B" in html, html.count("http")
        (True, 0)
    """
    from jinja2 import Environment, StrictUndefined

    source = (resources.files("neurodial.evaluation.report") / "page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = format_cell
    return environment.from_string(source).render(page=page, show_harmful=show_harmful)


def write_page(page: Page, path: Path | str, *, show_harmful: bool = False, overwrite: bool = False) -> Path:
    """Write the page, atomically.

    Raises:
        FileError: the file exists and `overwrite` is false, or it can't be written.
    """
    return write_atomic(path, render_page(page, show_harmful=show_harmful), overwrite=overwrite)


def format_cell(cell: Cell, column: Column) -> tuple[str, str]:
    """A cell as its main text and its small print.

    Example:
        >>> from neurodial.evaluation.intervals import wilson
        >>> format_cell(wilson(82, 100), Column("refused", is_share=True))
        ('82.0 %', '73.3 to 88.3 %, n = 100')
        >>> format_cell(None, Column("x"))
        ('–', '')
    """
    if isinstance(cell, Difference):
        main, small = _estimate(cell.estimate, column, signed=True)
        return main, small if cell.p_value is None else f"{small}, p = {_p_value(cell.p_value)}"
    if isinstance(cell, Estimate):
        return _estimate(cell, column, signed=False)
    if cell is None:
        return "–", ""
    if isinstance(cell, float):
        return _number(cell, column), ""
    return str(cell), ""


def _estimate(estimate: Estimate, column: Column, *, signed: bool) -> tuple[str, str]:
    if estimate.n == 0 or math.isnan(estimate.value):
        return "–", f"n = {estimate.n}"
    sign = "+" if signed and estimate.value > 0 else ""
    ends = f"{_number(estimate.low, column).removesuffix(' %')} to {_number(estimate.high, column)}"
    return sign + _number(estimate.value, column), f"{ends}, n = {estimate.n}"


def _number(value: float, column: Column) -> str:
    if math.isnan(value):
        return "–"
    return f"{100 * value:.1f} %" if column.is_share else f"{value:.4g}"


def _p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"
