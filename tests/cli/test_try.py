"""`neurodial try` and `--unsteered`: what they print and write, and what they refuse before a model is loaded."""

import json
import re

import pytest
from tests.cli.test_cli import fail, flat, here, model, no_model  # noqa: F401  # fixtures

from neurodial.cli.main import app
from neurodial.cli.try_command import _PARTS, _parts
from neurodial.evaluation.first_try_options import FirstTry

DETECTOR = ["--detectors", "bare:regex:^"]
SMALL = [*DETECTOR, "--method", "cna", "--found-on", "4", "--prompts", "3", "--answer-tokens", "4"]


@pytest.fixture
def lists(here):  # noqa: F811
    rows = [{"positive": f"harm {n}, please?", "negative": f"help {n}, please?"} for n in range(12)]
    path = here / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(capsys, *arguments):
    app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return capsys.readouterr()


def test_one_command_from_prompts_to_a_verdict_and_what_to_type_next(capsys, model, lists):  # noqa: F811
    shown = run(capsys, "try", model, "-b", lists, *SMALL)
    words = flat(shown.out)
    assert "How often mine shows without steering" in words
    assert "prompts that the change is about: " in words
    assert "of 3 answers (95 % interval" in words
    assert "unsteered" in words
    assert "mine @ 1" in words
    assert any(verb in words.rsplit("mine at dial 1", 1)[1] for verb in ("does not change", "lowers", "raises"))
    steps = [line for line in shown.err.splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in steps] == [f"step {n} of 5" for n in range(1, 6)]
    assert sum(part.seconds for part in _PARTS) < 180, "three minutes"
    cut = re.search(r"(\d) of 3 answers were cut off after (\d+) tokens: .* \(--answer-tokens (\d+)\)", words)
    assert cut is not None
    assert int(cut[3]) == 4 * int(cut[2])
    for following in ("steer", "evaluate", "export", "serve"):
        assert f"next: neurodial {following} {model} mine-try/mine.circuit.json" in shown.err
    [asked] = [line for line in shown.err.splitlines() if line.startswith("next: neurodial evaluate")]
    assert "--detectors 'bare:regex:^'" in asked
    assert sorted(p.name for p in (lists.parent / "mine-try").iterdir()) == [
        "mine.circuit.json",
        "report",
        "try.json",
        "unsteered",
    ]
    assert (lists.parent / "mine-try" / "report" / "report.html").exists()


def test_unsteered_shows_the_model_alone(capsys, model, lists, monkeypatch):  # noqa: F811
    monkeypatch.setattr("neurodial.evaluation.first_try.discover", lambda *a, **k: pytest.fail("searched"))
    shown = run(capsys, "try", model, "-b", lists, "--unsteered", *SMALL)
    assert "How often mine shows without steering" in flat(shown.out)
    assert "Answers to prompts of the other side" in shown.out
    assert "step 2 of 2" in shown.err
    assert "next: the same command without --unsteered" in shown.err
    report = json.loads(run(capsys, "try", model, "-b", lists, "--unsteered", *SMALL, "--json").out)
    assert [condition["label"] for condition in report["arms"]] == ["unsteered"]


def test_too_few_prompts_are_refused_before_the_model_is_loaded(capsys, here, no_model):  # noqa: F811
    (here / "few.jsonl").write_text('{"positive": "a", "negative": "b", "split": "discovery"}\n')
    code, error = fail(capsys, "try", "demo", "-b", "few.jsonl")
    assert code == 1
    assert "has no development prompts" in error


def test_a_folder_of_others_is_refused_before_the_model_is_loaded(capsys, lists, no_model):  # noqa: F811
    (lists.parent / "full").mkdir()
    (lists.parent / "full" / "mine.txt").write_text("precious")
    code, error = fail(capsys, "try", "demo", "-b", lists, "-o", "full")
    assert code == 1
    assert "holds other files" in error


def test_the_time_announced_for_finding_is_that_of_the_method():
    seconds = {part.name: part.seconds for part in _parts(FirstTry(method="cna"), unsteered=False)}
    by_dose = {part.name: part.seconds for part in _parts(FirstTry(), unsteered=False)}
    differing = [name for name in by_dose if seconds[name] != by_dose[name]]
    assert differing == ["finding the neurons"]
    assert seconds["finding the neurons"] < by_dose["finding the neurons"]
    assert len(_parts(FirstTry(), unsteered=True)) == 2
