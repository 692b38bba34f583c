"""`neurodial single` and `audit` as a user types them, on a tiny model with one planted neuron."""

import json
import re

import pytest
from tests.planting import PLANTED, holding, negative, positive

from neurodial.cli.main import app
from neurodial.cli.options import ModelOptions
from neurodial.errors import FileError, OptionError

SUBJECT = holding("llama")


@pytest.fixture
def model(monkeypatch):
    """A name that stands for the planted model, loaded once: loading is tested elsewhere."""
    monkeypatch.setattr(ModelOptions, "load", lambda options, name: SUBJECT)
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


def test_single_finds_the_planted_neuron_and_says_how_to_steer(model, behaviour, capsys):
    text = run(capsys, "single", model, "-b", behaviour, "--top", "3")
    assert f"nd.Pin({{nd.Neuron({PLANTED.layer}, None, {PLANTED.index}):" in text
    anchored = run(capsys, "single", model, "-b", behaviour, "--pin", "anchored", "--steps", "1", "--candidates", "1")
    assert "anchored(subject, Anchor(neuron=Neuron(layer=1" in " ".join(anchored.split())
    rows = [line for line in text.splitlines() if line.strip()[:1] in {"0", "1"}]
    assert len(rows) == 3


def test_every_option_of_single_changes_the_result(model, behaviour, capsys):
    def sweep(*options):
        return json.loads(run(capsys, "single", model, "-b", behaviour, "--json", *options))["sweep"]

    assert len(sweep()) == 25
    assert len(sweep("--candidates", "2")) == 10
    assert len(sweep("--steps", "0,3")) == 10
    assert {row["neuron"][0] for row in sweep("--layers", "0.5")} == {0}
    with pytest.raises(OptionError, match="may have 2 tokens"):
        sweep("--pin", "anchored", "--opener-length", "2")
    constant, followed = (sweep("--steps", "4", "--pin", kind) for kind in ("constant", "anchored"))
    faint = sweep("--steps", "4", "--pin", "anchored", "--strength", "1e-6")
    rates = [{row["left_on_positive"] for row in rows} for rows in (constant, followed, faint)]
    assert rates[0] != rates[1] != rates[2]


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
