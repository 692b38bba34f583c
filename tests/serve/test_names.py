"""Model names and dials: what they add up to, and what is refused."""

import math

import pytest

from neurodial.circuit.circuit import Circuit
from neurodial.errors import OptionError
from neurodial.serve.failure import ApiError
from neurodial.serve.names import ModelNames, ServedCircuit

MODEL_NAMES = ModelNames(
    "org/base", {"polite": ServedCircuit(Circuit(())), "terse": ServedCircuit(Circuit(()), 0.5)}, max_dial=2.0
)


@pytest.mark.parametrize(
    ("model", "circuits", "dials"),
    [
        ("org/base", [], (0.0, 0.0)),
        ("polite", [], (1.0, 0.0)),
        ("terse", [], (0.0, 0.5)),
        ("polite@-1.5", [], (-1.5, 0.0)),
        ("org/base:polite@0.5", [], (0.5, 0.0)),
        ("org/base:terse", [], (0.0, 0.5)),
        ("org/base", [("polite", 1.0), ("terse", None)], (1.0, 0.5)),
        ("polite@0.5", [("polite", 1.0), ("terse", -2.0)], (1.5, -2.0)),
        ("polite@2", [("polite", -2.0)], (0.0, 0.0)),
        ("polite@1e0", [], (1.0, 0.0)),
    ],
)
def test_dials_add_up(model, circuits, dials):
    assert MODEL_NAMES.dials(model, circuits) == dials


@pytest.mark.parametrize("model", ["nope", "", "Polite", "polite:terse", "org/base:", "org/base:nope@1", "../polite"])
def test_unknown_names_are_not_found(model):
    with pytest.raises(ApiError, match="There is no model") as caught:
        MODEL_NAMES.dials(model)
    assert (caught.value.status, caught.value.param, caught.value.code) == (404, "model", "model_not_found")


def test_an_unknown_circuit_is_named():
    with pytest.raises(ApiError, match=r"There is no model 'polit'\. Did you mean polite") as caught:
        MODEL_NAMES.dials("polite", [("polit", 1.0)])
    assert caught.value.param == "circuits"


@pytest.mark.parametrize("dial", ["2.1", "-3", "nan", "inf", "-inf", "1e999", "high", "", "0x1", "1@1"])
def test_absurd_dials_are_refused_with_the_range(dial):
    with pytest.raises(ApiError, match=r"Wanted: a number(, as in polite@0\.5| from -2 to 2)") as caught:
        MODEL_NAMES.dials(f"polite@{dial}")
    assert caught.value.status == 400


def test_a_sum_beyond_the_range_is_refused():
    """Each alone is allowed."""
    with pytest.raises(ApiError, match=r"dial of 'polite' is 3\.0"):
        MODEL_NAMES.dials("polite@1.5", [("polite", 1.5)])
    with pytest.raises(ApiError, match="from -2 to 2"):
        MODEL_NAMES.dials("org/base", [("terse", math.nan)])


def test_the_list_has_parents():
    base, polite, terse = MODEL_NAMES.entries(1)
    assert (base["id"], base["parent"]) == ("org/base", None)
    assert (polite["id"], polite["parent"], polite["dials"]) == ("polite", "org/base", {"polite": 1.0})
    assert terse["dials"] == {"terse": 0.5}
    assert MODEL_NAMES.entry("org/base:polite@-1", 1)["dials"] == {"polite": -1.0}


@pytest.mark.parametrize("name", ["a@b", "a:b", "a/b", "", "..", "org/base", "x" * 65, "ä"])
def test_names_that_requests_could_not_say_are_refused(name):
    with pytest.raises(OptionError, match="A circuit is named"):
        ModelNames("org/base", {name: ServedCircuit(Circuit(()))})


def test_a_name_like_the_base_is_refused():
    with pytest.raises(OptionError, match="A circuit is named 'demo'"):
        ModelNames("demo", {"demo": ServedCircuit(Circuit(()))})


def test_a_circuits_own_dial_must_be_in_the_range():
    with pytest.raises(OptionError, match="from -1 to 1"):
        ModelNames("base", {"polite": ServedCircuit(Circuit(()), 2.0)}, max_dial=1.0)
