"""Plots as SVG text: no fonts to load, text that scales, ink that follows the reader's light or dark page."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_INK = "#010203"
"""Stands for the page's own text colour until the SVG is written."""
_COLOURS = ("#2f86e0", "#d9536a", "#2a9d6f", "#c0921a", "#9670c4", "#3d98ab", "#cc7a3a")
_GREY = "#868c95"
"""Each is told from light and from dark paper."""
_WIDE = 200
"""Largest over least from which an axis has no numbers between powers of ten."""
_LONG_LABEL = 38
"""Characters from which a legend has one column."""
_MARKS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Series:
    """Points of one line, with intervals where there are some.

    Attributes:
        label: its name in the legend.
        x: places.
        y: values.
        low: lower ends of the intervals.
        high: upper ends.
        is_control: whether it stands for chance: controls are grey and share one entry of the legend.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    is_control: bool = False


def csv_of(series: Sequence[Series], *, x_name: str, y_name: str) -> str:
    """The points as comma-separated values, one line each.

    Example:
        >>> print(csv_of([Series("CNA", (1.0,), (0.4,), (0.2,), (0.6,))], x_name="dial", y_name="refused"))
        method,dial,refused,low,high
        CNA,1.0,0.4,0.2,0.6
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", x_name, y_name, "low", "high"])
    for curve in series:
        ends: Sequence[str | float] = [""] * len(curve.x)
        rows = zip(
            curve.x,
            curve.y,
            ends if curve.low is None else curve.low,
            ends if curve.high is None else curve.high,
            strict=True,
        )
        writer.writerows([curve.label, *row] for row in rows)
    return stream.getvalue().rstrip("\n")


def lines(
    series: Sequence[Series], *, x_label: str, y_label: str, is_share: bool = False, baseline: float | None = None
) -> str:
    """Lines with markers and shaded intervals; a dashed line at the baseline where there is one.

    Example:
        >>> svg = lines([Series("CNA", (0.0, 1.0), (0.8, 0.4))], x_label="dial", y_label="refused")
        >>> svg.startswith("<svg"), "currentColor" in svg
        (True, True)
    """
    with _axes(x_label, y_label, sum(not curve.is_control for curve in series) + 1) as (axes, finish):
        for colour, mark, label, curve in _styled(series):
            axes.plot(curve.x, curve.y, color=colour, marker=mark, markersize=5, label=label)
            if curve.low is not None and curve.high is not None:
                axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        _finish_axes(axes, is_share=is_share, baseline=baseline)
        return finish()


def scatter(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    is_share: bool = False,
    logarithmic: bool = False,
    baseline: float | None = None,
) -> str:
    """Points joined in their order, with error bars: a frontier of what is left against what it cost.

    Example:
        >>> scatter([Series("CAA", (0.1, 0.2), (0.6, 0.3))], x_label="KL", y_label="refused").count("<svg")
        1
    """
    with _axes(x_label, y_label, sum(not curve.is_control for curve in series) + 1) as (axes, finish):
        for colour, mark, label, curve in _styled(series):
            axes.plot(curve.x, curve.y, color=colour, marker=mark, markersize=6, linewidth=1, alpha=0.9, label=label)
            if curve.low is not None and curve.high is not None:
                reach = [
                    [max(0.0, y - low) for y, low in zip(curve.y, curve.low, strict=True)],
                    [max(0.0, high - y) for y, high in zip(curve.y, curve.high, strict=True)],
                ]
                axes.errorbar(curve.x, curve.y, yerr=reach, color=colour, linewidth=0.8, fmt="none", alpha=0.6)
        if logarithmic:
            _logarithmic(axes, [x for curve in series for x in curve.x])
        _finish_axes(axes, is_share=is_share, baseline=baseline)
        return finish()


def _logarithmic(axes: Any, values: Sequence[float]) -> None:
    """A logarithmic scale with plain numbers at powers of ten and, where there is room, at 2 and 5; 0 stays on it."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    least = min((value for value in values if value > 0), default=1e-3)
    floor = 10.0 ** math.floor(math.log10(least))
    axes.set_xscale("symlog", linthresh=floor, linscale=0.3)
    top = max((*values, floor))
    steps = (1, 2, 5) if top / floor < _WIDE else (1,)
    ticks = [0.0] if min(values, default=0.0) <= 0 else []
    ticks += [step * 10.0**power for power in range(-9, 4) for step in steps]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick == 0 or floor <= tick <= 2.5 * top]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(0 if 0.0 in ticks else floor, 1.6 * top)


def _styled(series: Sequence[Series]) -> Iterator[tuple[str, str, str, Series]]:
    """Colour, mark and entry of the legend of each; no two methods have both colour and mark in common."""
    controls = sum(curve.is_control for curve in series)
    methods = seen = 0
    for curve in series:
        if curve.is_control:
            label = curve.label if controls == 1 else "random controls" if not seen else "_in the entry before"
            yield _GREY, _MARKS[seen % len(_MARKS)], label, curve
            seen += 1
        else:
            yield (
                _COLOURS[methods % len(_COLOURS)],
                _MARKS[(methods + methods // len(_COLOURS)) % len(_MARKS)],
                curve.label,
                curve,
            )
            methods += 1


def _finish_axes(axes: Any, *, is_share: bool, baseline: float | None) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.grid(visible=True, alpha=0.15)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if baseline is not None:
        axes.axhline(baseline, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.7, label="unsteered")
    if is_share:
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 1 if max(map(len, labels)) > _LONG_LABEL else 2
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)


@contextmanager
def _axes(x_label: str, y_label: str, count: int) -> Iterator[tuple[Any, Callable[[], str]]]:
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
        figure = Figure(figsize=(5.8, 2.8 + 0.1 * count), layout="constrained")
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
