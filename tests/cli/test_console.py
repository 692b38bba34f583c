"""Progress where stderr is no terminal: lines that say how much is left."""

import io

import pytest
from rich.console import Console

from neurodial.cli import console


@pytest.fixture
def piped(monkeypatch):
    """What is printed, and a clock that the test sets."""
    stream, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(console, "err", Console(file=stream, width=120))
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    return stream, clock


def test_long_work_says_every_few_seconds_how_much_is_left(piped):
    stream, clock = piped
    with console.bars("measuring [costs]", 40) as advance:
        for seconds in (4.0, 12.0, 13.0, 24.0):
            clock[0] = seconds
            advance(10)
    assert stream.getvalue().splitlines() == [
        "measuring [costs]: 40",
        "measuring [costs]: 20 of 40, about 12 s left",
        "measuring [costs]: 40 of 40, took 24 s",
    ]


def test_work_without_a_step_is_no_line(piped):
    stream, _ = piped
    with console.bars("measuring: speed", 0):
        pass
    assert stream.getvalue() == ""


def test_short_work_is_one_line(piped):
    stream, clock = piped
    with console.bars("generating", 2) as advance:
        clock[0] = 3.0
        advance(2)
    assert stream.getvalue().splitlines() == ["generating: 2"]
