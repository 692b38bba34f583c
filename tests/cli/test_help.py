"""Help that a person can read: groups, examples that can be typed, lists that may be given one by one."""

import json
import shlex

import pytest

from neurodial.circuit.selection import Count
from neurodial.cli.circuits_command import describe_method
from neurodial.cli.main import COMMANDS, EXAMPLES, GROUPS, SUMMARIES, app, main
from neurodial.cli.options import joined
from neurodial.errors import UnknownNameError
from neurodial.evaluation.detectors.registry import detector_names
from neurodial.evaluation.first_try_options import FirstTry
from neurodial.evaluation.options import Evaluation
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.options import Dose
from neurodial.options import changed
from neurodial.provenance import describe


def run(capsys, *arguments):
    app([str(argument) for argument in arguments], exit_on_error=False, result_action="return_value")
    return capsys.readouterr().out


def test_every_command_is_in_one_group_and_has_a_summary():
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(COMMANDS) == sorted(SUMMARIES)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_two_examples_that_can_be_typed(name, capsys):
    shown = run(capsys, name, "--help")
    assert len(EXAMPLES[name]) >= 2
    for example in EXAMPLES[name]:
        assert example.startswith(name)
        assert f"neurodial {example}"[:60] in shown
        app.parse_args(shlex.split(example), exit_on_error=False, print_error=False)


def test_the_overview_says_what_the_demo_models_are(capsys):
    overview = " ".join(run(capsys, "--help").split())
    for words in (
        "demo (a small model that was taught to refuse",
        "demo-base (the same model without it)",
        "--verbose",
    ):
        assert words in overview


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("refusal,formality", ("refusal", "formality")),
        (["refusal,formality", "hedging"], ("refusal", "formality", "hedging")),
        (["formality, regex:a{1,3},b"], ("formality", "regex:a{1,3},b")),
        (["regex:a{1,3}", "bare:regex:b{2,}"], ("regex:a{1,3}", "bare:regex:b{2,}")),
        ("none", ()),
        (["none"], ()),
    ],
)
def test_names_stand_between_commas_or_one_by_one_and_a_pattern_keeps_its_commas(given, names):
    assert changed(Evaluation(), {"detectors": given}).detectors == names
    assert changed(FirstTry(), {"detectors": given}).detectors == names


def test_numbers_one_by_one_too():
    assert changed(Evaluation(), {"seeds": ["1,2", "3"]}).seeds == (1, 2, 3)
    assert changed(Evaluation(), {"seeds": [4, 5]}).seeds == (4, 5)
    assert joined(["-1", "0.5,1"]) == "-1,0.5,1"


def test_an_option_given_twice_reaches_the_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "demo", "--against", "caa", "--against", "caaa", "-o", "x"])
    assert stopped.value.code == 1
    assert "caaa" in capsys.readouterr().err


def test_a_function_in_the_working_folder_is_a_detector(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_rules_here.py").write_text(
        "def asks(prompt: str, answer: str) -> bool:\n    return '?' in answer\n"
    )
    rows = [("Hi", "Who?", "shown"), ("Hi", "Me.", "absent")]
    lines = [json.dumps({"prompt": p, "answer": a, "label": label}) for p, a, label in rows]
    (tmp_path / "labelled.jsonl").write_text("\n".join(lines))
    with pytest.raises(SystemExit) as stopped:
        main(["detectors", "check", "labelled.jsonl", "-d", "python:my_rules_here:asks", "--json"])
    assert not stopped.value.code
    [check] = json.loads(capsys.readouterr().out)
    assert check["accuracy"]["value"] == 1.0


def test_what_one_can_write_oneself_is_listed_first(capsys):
    shown = run(capsys, "detectors")
    places = [shown.index(word) for word in ("regex:PATTERN", "python:MODULE:FUNCTION", "length:N", "formality")]
    assert places == sorted(places)
    assert "def FUNCTION(prompt: str, answer: str) -> bool" in shown
    assert shown.count("language:") == 1, "languages in one row"
    listed = json.loads(run(capsys, "detectors", "--json"))
    assert [row["name"] for row in listed] == detector_names()


def test_a_method_is_described_by_what_differs_from_its_defaults():
    assert describe_method(describe(Dose())) == "Dose, as by default"
    words = describe_method(describe(Dose(budget=None, select=Count(9), skip_layers=(0, 1))))
    assert words == "Dose, with budget none, select count:9, skip layers 0,1; otherwise as by default"
    assert describe_method(describe(CNA(universal=None, as_published=True))).startswith("CNA, with universal none")
    assert "as published yes" in describe_method(describe(CNA(as_published=True)))
    assert describe_method({}) == "by hand"
    assert describe_method({"kind": "random_control", "match": "global"}) == "random_control, with match global"


def test_a_wrong_name_in_a_list_is_still_refused():
    with pytest.raises(UnknownNameError):
        changed(Dose(), {"margin": "openerss"})
