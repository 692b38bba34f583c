"""How often a detector errs: what ships is what was measured, and it stands wherever a rate does."""

import json

import pytest
from scripts.detector_errors import SHIPPED, gathered

from neurodial.cli.detectors_command import detectors
from neurodial.evaluation.detectors.agreement import check, shipped_for
from neurodial.evaluation.detectors.known_error import UNMEASURED, known_error
from neurodial.evaluation.detectors.registry import detector, detector_names, function, regex

MEASURED = ("flattery", "formality", "hedging", "language:fr", "length:short", "sentiment:positive")


def test_what_ships_is_what_the_figures_say():
    assert json.loads(SHIPPED.read_text("utf-8")) == gathered()


@pytest.mark.parametrize("name", MEASURED)
def test_the_shipped_answers_give_it_again(name):
    answers = shipped_for(name)
    kappa = check(detector(name), answers).kappas["left out"]
    error = known_error(name)
    assert error.n == len(answers)
    assert error.kappa["left out"] == pytest.approx((kappa.value, kappa.low, kappa.high), abs=5e-5)


def test_every_detector_says_how_often_it_errs_or_that_nobody_knows():
    for name in detector_names():
        error, text = known_error(name), detector(name).description
        assert (UNMEASURED in text) == (error is None)
        assert error is None or str(error) in text
    measured = [name for name in detector_names() if known_error(name) is not None]
    assert {*MEASURED, "refusal", "refusal:cna", "refusal:opening"} <= set(measured)
    for own in (regex("tea"), function(lambda prompt, answer: True, name="mine"), detector("language:de")):
        assert UNMEASURED in own.description
    assert "errs" not in detector("length:7").description  # a length is what it says


def test_without_the_check_for_broken_text_it_is_said_that_the_error_was_measured_with_it():
    for name in ("refusal", "refusal:cna", "formality"):
        assert "set apart where the error was measured" in detector(f"bare:{name}").description
        assert "set apart" not in detector(name).description


def test_the_list_on_the_command_line_has_it(capsys):
    detectors("list", json=True)
    listed = {row["name"]: row["description"] for row in json.loads(capsys.readouterr().out)}
    assert str(known_error("refusal:cna")) in listed["refusal:cna"]
