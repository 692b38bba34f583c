"""`neurodial evaluate`, `detectors` and `study`, from what a user types to files."""

import json

import pytest

from neurodial.cli.main import main
from neurodial.evaluation.baselines import COMPARATORS
from neurodial.model.tiny import tiny_subject

ANSWERS = '"positive_answer": "yes it is", "negative_answer": "no it is not"'
MEASURE = [
    *("--detectors", "regex:[a-m]", "--neutral", "1", "--over-refusal", "0", "--perplexity", "0"),
    *("--max-new-tokens", "2"),
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    subject = tiny_subject()
    subject.model.save_pretrained(folder / "model")
    subject.tokenizer.save_pretrained(folder / "model")
    lines = [
        f'{{"split": "{split}", "positive": "Bad {split} {n}", "negative": "Good {split} {n}", {ANSWERS}}}'
        for split in ("discovery", "development", "test")
        for n in range(2)
    ]
    (folder / "tone.jsonl").write_text("\n".join(lines))
    (folder / "tone.toml").write_text('name = "tone"\nmargin = "answer"\ndetector = "formality"\n')
    discover = ["discover", str(folder / "model"), "-b", str(folder / "tone.toml"), "--count", "3", "--folds", "0"]
    assert run(*discover, "--universal", "none", "-o", folder / "tone.circuit.json") == 0
    return folder


def run(*arguments):
    """Run the command line; the exit status."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return stopped.code
    return 0


def test_evaluate_writes_a_report_and_goes_on(workplace, capsys):
    output = workplace / "report"
    command = ["evaluate", workplace / "model", workplace / "tone.circuit.json", "-b", workplace / "tone.toml"]
    command += ["--dials=-1,1", "--against", "random", *MEASURE, "-o", output]
    assert run(*command) == 0
    shown = capsys.readouterr().out
    assert "unsteered" in shown
    assert "random (seed 2)" in shown
    value = json.loads((output / "report.json").read_text())
    assert {condition["dial"] for condition in value["arms"]} == {-1.0, 0.0, 1.0}
    assert (output / "report.html").read_text().startswith("<!doctype html>")
    rows = (output / "generations.jsonl").read_text()
    assert run(*command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["format"] == "neurodial.report"
    assert (output / "generations.jsonl").read_text() == rows
    assert run(*command, "--seed", "5") == 1
    assert "another run" in capsys.readouterr().err


def test_evaluate_says_what_is_wrong_before_the_model_is_loaded(workplace, capsys):
    base = ["evaluate", workplace / "no-model", "-o", workplace / "other"]
    circuit = workplace / "tone.circuit.json"
    assert run(*base) == 1
    assert "nothing to evaluate" in capsys.readouterr().err
    assert run(*base, circuit, "--against", "cca") == 1
    assert min(COMPARATORS) in capsys.readouterr().err
    assert run(*base, circuit, "--dials", "1,1") == 1
    assert "each dial once" in capsys.readouterr().err
    assert run(*base, circuit, "--neutral", "-3") == 1
    assert run(*base, circuit, "--rubric", "x") == 1
    assert run(*base, circuit, "-b", "refusal", "--test-set", "xtest") == 1
    assert "xstest" in capsys.readouterr().err
    assert run(*base, circuit) == 1
    assert "prompts of your own, 'tone'. Wanted: --behaviour" in " ".join(capsys.readouterr().err.split())


def test_detectors_are_listed_and_checked(workplace, capsys):
    assert run("detectors", "--json") == 0
    assert {"refusal", "refusal:jailbreakbench"} <= {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert run("detectors", "check", "--split", "test", "-d", "refusal", "--json") == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["recall"]["n"] == 57
    path = workplace / "mine.jsonl"
    path.write_text('{"prompt": "Tea?", "answer": "No.", "label": "shown"}\n')
    assert run("detectors", "check", path, "-d", "regex:^yes", "--wrong", "1") == 0
    assert "called absent" in capsys.readouterr().out
    assert run("detectors", "check", path, "-d", "refusel") == 1
    assert "refusal" in capsys.readouterr().err


def test_a_study_states_its_bill_and_writes_its_folder(workplace, capsys):
    output = workplace / "sweep"
    command = ["study", "sweep", workplace / "model", workplace / "tone.circuit.json", "-b", workplace / "tone.toml"]
    assert run(*command, "--counts", "1,3", "--dials", "1", "--points", "none", *MEASURE, "-o", output) == 0
    said = capsys.readouterr()
    assert "tokens to compute" in said.err
    assert "3 neurons" in said.out
    assert (output / "dense" / "report.html").exists()
    assert run(*command, "--counts", "x", "-o", output) == 1
    assert (
        run("study", "layers", workplace / "model", "-b", workplace / "tone.toml", "--shuffles", "2", "-o", output) == 0
    )
    assert "expected" in capsys.readouterr().out


def test_two_reports_are_compared_and_the_record_holds_the_command(workplace, capsys, monkeypatch):
    monkeypatch.chdir(workplace)
    base = ["evaluate", workplace / "model", "tone.circuit.json", "-b", "tone.toml", *MEASURE]
    assert run(*base, "-o", "before") == 0
    shown = capsys.readouterr().out
    assert run(*base, "--system", "Be kind.", "-o", "after") == 0
    value = json.loads((workplace / "before" / "report.json").read_text())
    command = value["provenance"]["command"]
    assert command.startswith("neurodial evaluate model tone.circuit.json -b tone.toml --detectors")
    assert str(workplace) not in command
    assert command in (workplace / "before" / "report.html").read_text()
    assert value["provenance"]["splits"] == {"discovery": 2, "development": 2, "test": 2}
    last = " ".join(shown.split())
    assert "at dial 1 does not change tone beyond chance" in last[-400:]
    capsys.readouterr()
    assert run("compare", "before", "after/report.json", "-o", "compared.html") == 0
    text = capsys.readouterr().out
    assert "settings decoding system" in text
    assert "paired on the same prompts" in " ".join(text.split())
    assert "settings decoding system" in (workplace / "compared.html").read_text()
    assert run("compare", "before", "after", "-o", "compared.html") == 1
    assert "exists" in capsys.readouterr().err
    assert run("compare", "before", "after", "-o", "compared.html", "--force", "--json") == 0
    assert json.loads(capsys.readouterr().out)["same_prompts"] is True
    assert run("compare", "before", "tone.circuit.json") == 1
    assert "tone.circuit.json is none" in capsys.readouterr().err
    assert run("compare", "tone.circuit.json", "tone.circuit.json", "-o", "x.html") == 1
    assert "not for two circuits" in capsys.readouterr().err
