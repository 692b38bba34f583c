"""A page as one HTML file that needs nothing beside it.

1. The template escapes everything but the plots, which are made here.
2. Answers to harmful prompts are left out of the file, not just hidden, unless they are asked for.
3. Everything is read without scripts. One small script, allowed by its own hash and nothing else, adds buttons that
   copy; where scripts are off, as in the studio, what can be copied is one click to select.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from importlib import resources
from pathlib import Path

from neurodial.evaluation.intervals import Difference, Estimate
from neurodial.evaluation.report.page import Cell, Column, Figure, Page
from neurodial.files import write_atomic


def render_page(page: Page, *, show_harmful: bool = False) -> str:
    """The page as HTML.

    Args:
        page: what it holds.
        show_harmful: put the answers to harmful prompts in too.

    Example:
        >>> from neurodial.evaluation.report.page import FirstScreen
        >>> html = render_page(Page("Report", FirstScreen("A < B"), ()))
        >>> "A &lt; B" in html, html.count("http:"), html.count("<script")
        (True, 0, 1)
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": format_cell, "plot": _own_names}
    script = _read("page.js").strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(_read("page.html.jinja")).render(
        page=page, show_harmful=show_harmful, style=_read("page.css").strip(), script=script, script_hash=digest
    )


def without_script(html: str) -> str:
    """A written page without its script, for places that allow none: there a browser would complain of it.

    Example:
        >>> without_script("<p>Said.</p><script>copy()</script>")
        '<p>Said.</p>'
    """
    return re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)


def write_page(page: Page, path: Path | str, *, show_harmful: bool = False, overwrite: bool = False) -> Path:
    """Write the page, atomically.

    Raises:
        FileError: the file exists and `overwrite` is false, or it can't be written.
    """
    return write_atomic(path, render_page(page, show_harmful=show_harmful), overwrite=overwrite)


def format_cell(cell: Cell, column: Column) -> tuple[str, str]:
    """A cell as its main text and its small print.

    Example:
        >>> from neurodial.evaluation.intervals import paired_rates, wilson
        >>> format_cell(wilson(82, 100), Column("refused", is_share=True))
        ('82.0 %', '73.3 to 88.3 %, n = 100')
        >>> format_cell(paired_rates([True] * 8, [False] * 8), Column("refused", is_share=True))
        ('−100.0 points', '−100.0 to −54.5, n = 8, p = 0.0078')
        >>> format_cell(None, Column("x"))
        ('–', '')
    """
    if isinstance(cell, Difference):
        main, small = _estimate(cell.estimate, column, signed=True)
        return main, small if cell.p_value is None else f"{small}, p {_p_value(cell.p_value)}"
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
    if signed:
        scale, digits, unit = (100, ".1f", " points") if column.is_share else (1, ".3g", "")
        numbers = (estimate.value, estimate.low, estimate.high)
        value, low, high = (f"{scale * number:+{digits}}".replace("-", "−") for number in numbers)
        between = "" if math.isnan(estimate.low) else f"{low} to {high}, "
        return f"{value}{unit}", f"{between}n = {estimate.n}"
    if math.isnan(estimate.low):
        return _number(estimate.value, column), f"n = {estimate.n}"
    ends = f"{_number(estimate.low, column).removesuffix(' %')} to {_number(estimate.high, column)}"
    return _number(estimate.value, column), f"{ends}, n = {estimate.n}"


def _number(value: float, column: Column) -> str:
    if math.isnan(value):
        return "–"
    return f"{100 * value:.1f} %" if column.is_share else f"{value:.4g}"


def _p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.2g}"


def _own_names(figure: Figure) -> str:
    """The plot with names of its own, so that two on a page do not meet, and with its caption for those who listen."""
    named = re.sub(r'\bid="', f'id="{figure.name}-', figure.svg)
    named = re.sub(r"url\(#", f"url(#{figure.name}-", named)
    named = re.sub(r'href="#', f'href="#{figure.name}-', named)
    caption = figure.caption.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return named.replace("<svg ", f'<svg role="img" aria-label="{caption}" ', 1)


def _read(name: str) -> str:
    return (resources.files("neurodial.evaluation.report") / name).read_text(encoding="utf-8")
