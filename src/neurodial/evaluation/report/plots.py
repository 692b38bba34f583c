"""Plots as SVG text: no fonts to load, text that scales, ink that follows the reader's light or dark page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_INK = "#010203"
"""Stands for the page's own text colour until the SVG is written."""
_COLOURS = ("#0b6bcb", "#d1495b", "#2a9d6f", "#b8860b", "#7d5ba6", "#3d8b9c", "#c06c2b", "#7a7f87")
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Series:
    """Points of one line, with intervals where there are some.

    Attributes:
        label: its name in the legend.
        x: places.
        y: values.
        low: lower ends of the intervals.
        high: upper ends.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


def lines(series: Sequence[Series], *, x_label: str, y_label: str, is_share: bool = False) -> str:
    """Lines with markers and shaded intervals.

    Example:
        >>> svg = lines([Series("CNA", (0.0, 1.0), (0.8, 0.4))], x_label="dial", y_label="refused")
        >>> svg.startswith("<svg"), "currentColor" in svg
        (True, True)
    """
    with _axes(x_label, y_label) as (axes, finish):
        for colour, mark, one in _styled(series):
            axes.plot(one.x, one.y, color=colour, marker=mark, markersize=5, label=one.label)
            if one.low is not None and one.high is not None:
                axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.15, linewidth=0)
        _finish_axes(axes, len(series), is_share=is_share)
        return finish()


def scatter(
    series: Sequence[Series], *, x_label: str, y_label: str, is_share: bool = False, logarithmic: bool = False
) -> str:
    """Points joined in their order, with error bars: a frontier of what is left against what it cost.

    Example:
        >>> scatter([Series("CAA", (0.1, 0.2), (0.6, 0.3))], x_label="KL", y_label="refused").count("<svg")
        1
    """
    with _axes(x_label, y_label) as (axes, finish):
        for colour, mark, one in _styled(series):
            axes.plot(one.x, one.y, color=colour, marker=mark, markersize=5, linewidth=1, alpha=0.9, label=one.label)
            if one.low is not None and one.high is not None:
                reach = [
                    [y - low for y, low in zip(one.y, one.low, strict=True)],
                    [high - y for y, high in zip(one.y, one.high, strict=True)],
                ]
                axes.errorbar(one.x, one.y, yerr=reach, color=colour, linewidth=0.8, fmt="none", alpha=0.6)
        if logarithmic:
            axes.set_xscale("symlog", linthresh=1e-3)
        _finish_axes(axes, len(series), is_share=is_share)
        return finish()


def _styled(series: Sequence[Series]) -> Iterator[tuple[str, str, Series]]:
    for number, one in enumerate(series):
        yield _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)], one


def _finish_axes(axes: Any, count: int, *, is_share: bool) -> None:
    axes.grid(visible=True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if is_share:
        axes.set_ylim(-0.03, 1.03)
    if count:
        axes.legend(frameon=False, fontsize=8)


@contextmanager
def _axes(x_label: str, y_label: str) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Axes of a figure of its own, never pyplot's global one, and a function that writes it."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ink: dict[Any, Any] = {
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "grid.color": _INK,
    }
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "neurodial", "font.size": 10, **ink}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        canvas: Any = FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)

        def finish() -> str:
            stream = io.StringIO()
            canvas.print_svg(stream, metadata={"Date": None, "Creator": None})
            return _clean(stream.getvalue())

        yield axes, finish


def _clean(svg: str) -> str:
    """The <svg> element alone, without addresses that a page might fetch, in the page's own ink."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return svg.replace(_INK, "currentColor").strip()
