"""`neurodial audit` and `discover --method single` as a user types them, on a tiny model with one planted neuron."""

import json
import re

import pytest
from tests.planting import NEUTRAL, PLANTED, holding, negative, positive

from neurodial.circuit.file import read_circuit
from neurodial.cli.main import app
from neurodial.cli.model_options import ModelOptions
from neurodial.errors import FileError, OptionError

SUBJECT = holding("llama")


@pytest.fixture
def model(monkeypatch):
    """A name that stands for the planted model, loaded once: loading is tested elsewhere."""
    monkeypatch.setattr(ModelOptions, "load", lambda options, name, **_: SUBJECT)
    return "planted"


@pytest.fixture(scope="module")
def behaviour(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "planted.jsonl"
    rows = [{"positive": one, "negative": other} for one, other in zip(positive(), negative(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(capsys, *words):
    app(list(words), exit_on_error=False, print_error=False, result_action="return_value")
    return capsys.readouterr().out


def test_discover_finds_the_one_neuron_and_the_circuit_is_as_any_other(model, behaviour, capsys, tmp_path):
    neutral = tmp_path / "plain.txt"
    neutral.write_text("\n".join(NEUTRAL))
    output = tmp_path / "one.circuit.json"
    words = ("discover", model, "-b", behaviour, "--method", "single", "--margin", "openers", "--answer-tokens", "1")
    more = ("--neutral", str(neutral), "--candidates", "2", "-o", str(output))
    told = " ".join(run(capsys, *words, *more).split())
    assert "at dial 1 on development prompts: margin" in told
    assert "neurons searched (layer.index, margin at damage): 1.5 -" in told
    assert not {"predicted", "split-half"} & set(told.replace("(", " ").split())
    [row] = read_circuit(output)
    assert row.neuron == PLANTED
    with pytest.raises(OptionError, match="Method single takes one neuron"):
        run(capsys, *words, "--count", "2")
    with pytest.raises(OptionError, match="Method single has no option score"):
        run(capsys, *words, "--score", "delta")
    with pytest.raises(OptionError, match="Method dose has no option candidates"):
        run(capsys, *words[:4], "--method", "dose", "--candidates", "2")


def test_audit_tells_how_little_undoes_it(model, behaviour, capsys):
    words = ("audit", model, "-b", behaviour, "--margin", "openers")
    text = run(capsys, *words, "--counts", "1,2", "--pushes", "1", "--passages", "2")
    assert re.search(r"1 neurons at push 1 leave \d+% of the behaviour", text)
    weak = run(capsys, *words, "--counts", "1", "--pushes", "0.01", "--passages", "1")
    assert "Nothing tried" in weak


def test_every_option_of_audit_changes_the_result(model, behaviour, capsys, tmp_path):
    def points(*options):
        chosen = {"--counts": "1", "--pushes": "1", "--passages": "2", "--margin": "openers"} | dict(
            zip(options[::2], options[1::2], strict=True)
        )
        words = [word for option in chosen.items() for word in option if word]
        return json.loads(run(capsys, "audit", model, "-b", behaviour, "--json", *words))["points"]

    plain = points()
    assert len(plain) == 1
    assert len(points("--counts", "1,3", "--pushes", "0.5,1,2")) == 6
    assert points("--passages", "3")[0]["divergence"] != plain[0]["divergence"]
    assert points("--neutral", "diverse")[0]["divergence"] != plain[0]["divergence"]
    path = tmp_path / "audit.json"
    points("--output", str(path))
    assert json.loads(path.read_text())["points"] == plain
    with pytest.raises(FileError):
        points("--output", str(path))
    points("--output", str(path), "--force", "")


@pytest.mark.parametrize("options", [("--counts", "1.5"), ("--counts", "one"), ("--pushes", ""), ("--passages", "0")])
def test_numbers_that_make_no_sense_are_refused(model, behaviour, capsys, options):
    with pytest.raises(OptionError):
        run(capsys, "audit", model, "-b", behaviour, *options)
