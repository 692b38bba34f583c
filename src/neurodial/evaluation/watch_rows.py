"""What a watch saw at one step, and the file of such rows: JSON lines, a header first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurodial.circuit.site import Neuron
from neurodial.errors import FileError
from neurodial.evaluation.intervals import Estimate
from neurodial.evaluation.report.plots import Series, lines
from neurodial.evaluation.results import plain_values

FORMAT = "neurodial.watch"
VERSION = 1


@dataclass(frozen=True)
class WatchedStep:
    """A behaviour and its neurons at one step of training.

    Attributes:
        step: which.
        rate: how often the behaviour shows in answers, with its interval; None where it is not measured so.
        margin: mean of the behaviour's margin over the prompts that it is about, in nats; None where there is none.
        difference: how much the circuit's neurons tell the two sides apart: the mean over them of the size of their
            score, which for CNA's `delta` is the difference of mean activations.
        share: the part of all neurons' absolute differences that the circuit's neurons carry.
        overlap: the share of the neurons found at first that are found again now.
        by_chance: what `overlap` would be for as many neurons taken at random.
        neurons: those found now, as (layer, expert, index).
        seconds: how long looking took.
    """

    step: int
    rate: Estimate | None
    margin: float | None
    difference: float
    share: float
    overlap: float
    by_chance: float
    neurons: tuple[Neuron, ...]
    seconds: float

    def __str__(self) -> str:
        """One line for a training log."""
        parts = [f"step {self.step}"]
        if self.rate is not None:
            parts.append(f"shown {self.rate.value:.0%} [{self.rate.low:.0%}, {self.rate.high:.0%}] of {self.rate.n}")
        if self.margin is not None:
            parts.append(f"margin {self.margin:.3g} nats")
        found = f"{self.overlap:.0%} of the neurons found again (chance {self.by_chance:.1%})"
        return "; ".join([*parts, f"difference {self.difference:.3g}", f"share {self.share:.1%}", found])


def watched_steps(path: Path, header: Mapping[str, Any]) -> list[WatchedStep]:
    """The rows of a file; where there is none yet, it is begun.

    Args:
        path: the file.
        header: what is watched, and how.

    Raises:
        FileError: it can't be read or written, or holds something else, or another watch.
    """
    first = json.dumps({"format": FORMAT, "version": VERSION, **header}, ensure_ascii=False, sort_keys=True)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(first + "\n", encoding="utf-8")
            return []
        written, *rows = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise FileError(f"{path} can't be used: {error}.", wanted="a file of a watch, or a new one") from error
    if written != first:
        raise FileError(
            f"{path} is of another watch, or no file of one.",
            wanted="the same prompts, circuit and options, to go on with it",
            fix="Name another file.",
        )
    return [_row(path, number, line) for number, line in enumerate(rows, start=2)]


def add_step(path: Path, row: WatchedStep) -> None:
    """Write a row at the end of a file.

    Raises:
        FileError: it can't be written.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(plain_values(row), ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise FileError(f"{path} can't be written: {error}.", wanted="a file that can be written") from error


def _row(path: Path, number: int, line: str) -> WatchedStep:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(WatchedStep).validate_json(line)
    except ValidationError as error:
        raise FileError(
            f"Line {number} of {path} is not whole: {error.errors()[0]['msg']}.",
            wanted="a row of a watch",
            fix="Where an interruption cut off the last line, delete it.",
        ) from error


def steps_svg(rows: Sequence[WatchedStep]) -> str:
    """Rate, share and overlap against the step, as SVG.

    Example:
        >>> row = WatchedStep(0, None, 1.0, 2.0, 0.1, 1.0, 0.02, (), 0.5)
        >>> steps_svg([row]).startswith("<svg")
        True
    """
    x = tuple(float(row.step) for row in rows)
    rates = [row.rate for row in rows if row.rate is not None]
    curves = [
        Series("neurons found again", x, tuple(row.overlap for row in rows)),
        Series("share of the difference that the circuit carries", x, tuple(row.share for row in rows)),
        Series("found again by chance", x, tuple(row.by_chance for row in rows), is_control=True),
    ]
    if rates and len(rates) == len(rows):
        value, low, high = zip(*((rate.value, rate.low, rate.high) for rate in rates), strict=True)
        curves.insert(0, Series("behaviour shown", x, value, low, high))
    return lines(curves, x_label="step", y_label="share", is_share=True)
