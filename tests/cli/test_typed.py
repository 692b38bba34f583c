"""The command line in the record, and a command's parts."""

import io

import pytest
from rich.console import Console

from neurodial.cli.timed_parts import TimedPart, TimedParts
from neurodial.cli.typed import remember, typed_command


def typed(*arguments):
    remember([str(argument) for argument in arguments])
    return typed_command()


def test_what_is_typed_is_kept_as_it_is():
    assert typed("evaluate", "demo", "mine=a b.json@1", "--dials=-1,1") == (
        "neurodial evaluate demo 'mine=a b.json@1' --dials=-1,1"
    )
    kept = ["--judge", "http://127.0.0.1:8000/v1", "-d", "regex:/a/b", "Qwen/Qwen3-0.6B", "python:mine:rude"]
    assert typed(*kept) == "neurodial " + " ".join(kept)


def test_paths_of_this_machine_stay_out(tmp_path, monkeypatch):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
        (folder / "x.json").write_text("{}")
    monkeypatch.chdir(here)
    said = typed("evaluate", elsewhere, f"a={here}/x.json@1", "-o", here / "out", f"mmlu:{elsewhere}/x.json")
    assert said == "neurodial evaluate elsewhere a=x.json@1 -o out mmlu:x.json"
    assert str(tmp_path) not in said


def test_steps_are_announced_with_their_share_and_timed(monkeypatch):
    console = Console(file=io.StringIO(), width=200)
    seconds = iter([0.0, 5.0, 5.0, 15.0, 15.0, 100.0, 100.0])
    monkeypatch.setattr("neurodial.cli.timed_parts.time.perf_counter", lambda: next(seconds))
    steps = (TimedPart("loading", 5.0), TimedPart("looking", 5.0), TimedPart("answering", 90.0))
    parts = TimedParts(steps, console, "on two cores")
    parts.announce()
    for _ in range(3):
        with parts.next():
            pass
    assert console.file.getvalue().splitlines() == [
        "3 steps, about 1 min 40 s on two cores: 1 loading 5 s; 2 looking 5 s; 3 answering 1 min 30 s",
        "step 1 of 3: loading (5% of the whole; about 1 min 40 s left)",
        "step 2 of 3: looking (5% of the whole; about 1 min 35 s left)",
        "step 3 of 3: answering (90% of the whole; about 2 min 15 s left)",
    ], "the first two took 15 seconds where 10 were expected"
    assert parts.summary() == "took 1 min 40 s: loading 5 s, looking 10 s, answering 1 min 25 s"


def test_a_step_that_was_broken_off_is_not_done():
    parts = TimedParts((TimedPart("loading", 5.0),), Console(file=io.StringIO()), "on two cores")
    with pytest.raises(KeyError), parts.next():
        raise KeyError
    assert parts.took == []
