"""Long commands say which step they are at, go on after Ctrl-C, and say what to type next."""

import json

import pytest
from tests.cli.test_cli import here, model  # noqa: F401  # fixtures

from neurodial.cli.main import GOES_ON, app, main
from neurodial.strength.development import Development

DOSE = ["--method", "dose", "--count", "2", "--budget", "5", "--folds", "0", "--draws", "1", "--passages", "4"]
DOSE += ["--answer-tokens", "4", "--sign", "positive", "--margin", "answer"]


@pytest.fixture
def answered(here):  # noqa: F811
    rows = [{"prompt": f"Ask {n}", "positive_answer": "Arr, yes!", "negative_answer": "Yes."} for n in range(12)]
    (here / "pirate.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return here


def run(capsys, *arguments):
    app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return capsys.readouterr()


def steps_of(text):
    return [line for line in text.splitlines() if line.startswith("step ")]


def test_a_stopped_discovery_says_so_and_the_same_command_goes_on(capsys, model, answered, monkeypatch):  # noqa: F811
    command = ["discover", str(model), "-b", "pirate.jsonl", *DOSE, "-o", "pirate.circuit.json"]
    trials = Development.trials

    def breaks(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Development, "trials", breaks)
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 130
    assert capsys.readouterr().err.endswith("stopped; the same command goes on\n")
    assert not (answered / "pirate.circuit.json").exists()
    partial = answered / "pirate.circuit.json.partial"
    assert list(partial.glob("*.safetensors")), "effects and costs"
    monkeypatch.setattr(Development, "trials", trials)
    monkeypatch.setattr("neurodial.model.gradients.backward", lambda *args, **kwargs: pytest.fail("made again"))
    shown = run(capsys, *command)
    assert "going on with what an earlier run left" in shown.err
    assert steps_of(shown.err) == [f"step 1 of 2: loading {model}", "step 2 of 2: finding neurons by dose"]
    assert "next: neurodial steer" in shown.err
    assert "next: neurodial evaluate" in shown.err
    assert (answered / "pirate.circuit.json").exists()
    assert not partial.exists()


def test_what_keeps_nothing_does_not_say_that_it_goes_on(capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("neurodial.cli.main.app", interrupted)
    for command in ("trace", *sorted(GOES_ON)):
        with pytest.raises(SystemExit):
            main([command, "x"])
        said = "the same command goes on" if command in GOES_ON else "nothing was written"
        assert capsys.readouterr().err == f"stopped; {said}\n"


def test_evaluate_and_export_say_their_steps_and_what_to_type_next(capsys, model, answered):  # noqa: F811
    rows = [{"positive": f"harm {n}, please?", "negative": f"help {n}, please?"} for n in range(12)]
    (answered / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(capsys, "discover", model, "-b", "mine.jsonl", "--universal", "none", "--count", "2", "--folds", "0")
    small = ["--prompts", "2", "--neutral", "0", "--perplexity", "0", "--no-speed", "--max-new-tokens", "2"]
    small += ["--detectors", "bare:regex:^", "--margin", "none"]
    shown = run(capsys, "evaluate", model, "mine.circuit.json", "-b", "mine.jsonl", *small, "-o", "report")
    assert [line.partition(":")[0] for line in steps_of(shown.err)] == [f"step {n} of 3" for n in (1, 2, 3)]
    assert f"next: neurodial export {model} mine.circuit.json" in shown.err
    shown = run(capsys, "export", model, "mine.circuit.json", "-o", "out", "--report", "report")
    assert "model-index:" in (answered / "out" / "README.md").read_text().split("---\n")[1]
    assert [line.partition(":")[0] for line in steps_of(shown.err)] == ["step 1 of 2", "step 2 of 2"]
    assert "next: neurodial verify out" in shown.err
