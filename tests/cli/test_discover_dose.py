"""`neurodial discover --method dose`, as a user types it, on a tiny model saved to a folder."""

import json
from dataclasses import replace

import pytest

from neurodial.circuit.file import read_circuit
from neurodial.cli.circuits_command import report_lines
from neurodial.cli.main import app
from neurodial.errors import MarginError, OptionError
from neurodial.model.tiny import tiny_model, tiny_tokenizer

SPLITS = ("discovery", "development")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dose")
    tiny_model("llama").save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    answers = {"positive_answer": "no", "negative_answer": "yes, so"}
    rows = [{"positive": f"harm {n}?", "negative": f"help {n}!", **answers} for n in range(10)]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "plain.txt").write_text("\n".join(f"tell me {n}" for n in range(6)))
    return folder


def discover(model, *, flags=(), **options):
    """The command as it is typed."""
    typed = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    app(["discover", str(model), *typed, *flags], exit_on_error=False, result_action="return_value")


def run(files, **options):
    given = {"behaviour": files / "pairs.jsonl", "output": files / "found.circuit.json", "neutral": files / "plain.txt"}
    discover(files / "model", **given, method="dose", margin="answer", count=4, **options, flags=["--force"])


def test_a_dosed_circuit_says_what_it_does(files, capsys):
    run(files, budget=0.02, x_max=2.0, folds=0)
    shown = " ".join(capsys.readouterr().out.split())
    assert "dial 1 means remove" in shown
    assert "at dial 1 on development prompts: margin" in shown
    assert "damage on neutral answers:" in shown
    saved = json.loads((files / "found.circuit.json").read_text())
    assert saved["method"]["budget"] == 0.02
    assert max(saved["neurons"]["dose"]) <= 2.0
    assert saved["report"]["measured"]["divergence"] <= 0.02


def test_what_either_sign_reached_is_said_and_one_can_be_asked_for(files, capsys):
    run(files, budget=0.02, folds=0)
    assert "tried: neurons that hold it up alone" in capsys.readouterr().out
    saved = json.loads((files / "found.circuit.json").read_text())
    assert (saved["method"]["sign"], set(saved["report"]["signs"])) == ("tuned", {"positive", "both"})
    run(files, budget=0.02, folds=0, sign="negative")
    assert "tried:" not in capsys.readouterr().out
    saved = json.loads((files / "found.circuit.json").read_text())
    assert (saved["method"]["sign"], saved["report"]["sign"]) == ("negative", "negative")
    assert max(saved["neurons"]["dose"]) < 0


def test_fewer_passages_and_another_margin_reach_the_method(files):
    run(files, budget=0.02, passages=2, folds=0)
    saved = json.loads((files / "found.circuit.json").read_text())
    assert (saved["method"]["passages"], saved["method"]["margin"]) == (2, "answer")
    assert saved["report"]["measured"]["tokens"] <= 2 * 49  # an answer of 48 tokens and its end


def test_how_likely_reference_answers_became_is_said(files):
    run(files, budget=0.02, folds=0)
    report = read_circuit(files / "found.circuit.json").origin.report
    assert report is not None
    assert not any("reference answers" in line for line in report_lines(report))
    measured = replace(report.measured, reference_before=-1.25, reference=-1.125)
    lines = report_lines(replace(report, measured=measured))
    assert "log-likelihood of the reference answers: -1.25 → -1.12 a token (a limit: not to fall)" in lines


def test_neutral_answers_that_were_left_out_are_counted(files):
    run(files, budget=0.02, folds=0)
    report = read_circuit(files / "found.circuit.json").origin.report
    assert report is not None
    assert not any("left out" in line for line in report_lines(report))
    lines = report_lines(replace(report, neutral=replace(report.neutral, left_out=3)))
    assert "left out of cost and damage: 3 neutral answers that show the behaviour" in lines


def test_broken_answers_can_be_limited(files, capsys):
    run(files, budget=0.02, max_degenerate=1.0, folds=0)
    saved = json.loads((files / "found.circuit.json").read_text())
    assert saved["method"]["max_degenerate"] == 1.0
    measured = saved["report"]["measured"]
    before, after = (f"{measured[name]:.0%}" for name in ("degenerate_before", "degenerate"))
    assert f"degenerate answers on development prompts: {before} → {after}" in capsys.readouterr().out
    with pytest.raises(OptionError, match=r"max_degenerate is 5\.0"):
        run(files, max_degenerate=5.0)
    run(files, budget=0.02, max_broken=0.5, folds=0)
    saved = json.loads((files / "found.circuit.json").read_text())
    assert saved["method"]["max_broken"] == 0.5
    before, after = (f"{saved['report']['measured'][name]:.3f}" for name in ("broken_before", "broken"))
    assert f"mean brokenness of these answers: {before} → {after}" in capsys.readouterr().out
    with pytest.raises(OptionError, match=r"max_broken is -1\.0"):
        run(files, max_broken=-1.0)


def test_no_limit_is_said_with_none(files, capsys):
    run(files, budget="none", direction="induce", folds=0)
    assert "dial 1 means induce" in capsys.readouterr().out
    assert json.loads((files / "found.circuit.json").read_text())["method"]["budget"] is None


def test_an_option_of_another_method_is_refused(files):
    with pytest.raises(OptionError, match="Method dose has no option score"):
        run(files, score="delta")
    with pytest.raises(OptionError, match="Method cna has no option budget"):
        discover("demo", behaviour="refusal", method="cna", budget=0.1)


@pytest.mark.parametrize(
    ("lines", "margin", "said"),
    [
        (
            ['"positive": "harm SPLIT?", "negative": "help SPLIT!"'],
            "answer",
            "'harm discovery[?]' has no pair of answers",
        ),
        (
            ['"text": "harm SPLIT?", "label": "positive"', '"text": "b SPLIT", "label": "negative"'],
            "own-answers",
            "has no counterpart",
        ),
    ],
)
def test_prompts_that_lack_what_the_margin_reads_are_refused_before_loading(tmp_path, lines, margin, said):
    path = tmp_path / "bare.jsonl"
    rows = [line.replace("SPLIT", split) + f', "split": "{split}"' for split in SPLITS for line in lines]
    path.write_text("\n".join(f"{{{row}}}" for row in rows))
    with pytest.raises(MarginError, match=said):
        discover("no/such/model", behaviour=str(path), method="dose", margin=margin)


def test_the_published_method_says_what_dose_would_add(files, capsys):
    given = {"behaviour": files / "pairs.jsonl", "output": files / "cna.circuit.json", "universal": "none", "count": 3}
    discover(files / "model", **given, flags=["--force"])
    assert "--method dose measures how far" in " ".join(capsys.readouterr().err.split())
    run(files, budget=0.02, folds=0)
    assert "--method dose measures" not in " ".join(capsys.readouterr().err.split())


def test_a_budget_that_cannot_be_met_gives_the_best_that_was_found(files, capsys):
    run(files, budget=1e-9, folds=0)
    assert "not met: Even the smallest strength costs" in " ".join(capsys.readouterr().out.split())
    saved = json.loads((files / "found.circuit.json").read_text())
    assert saved["report"]["goal"]["reached"] is False
    assert saved["report"]["seconds"]["search"] > 0
