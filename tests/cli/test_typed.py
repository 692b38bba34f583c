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


def test_parts_are_announced_and_timed():
    console = Console(file=io.StringIO(), width=200)
    parts = TimedParts((TimedPart("loading", 5.0), TimedPart("answering", 90.0)), console, "on two cores")
    parts.announce()
    with parts.next():
        pass
    assert console.file.getvalue().splitlines() == [
        "2 parts, about 1 min 35 s on two cores: 1 loading 5 s; 2 answering 1 min 30 s",
        "1 of 2: loading (about 5 s)",
    ]
    assert parts.summary() == "took 1 s: loading 1 s"
    with pytest.raises(KeyError), parts.next():
        raise KeyError
    assert len(parts.took) == 1, "what was broken off is not done"
