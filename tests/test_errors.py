"""An error is help: it says what came, what was wanted and what to do."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodial import errors
from neurodial.errors import NeurodialError, near_names

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, NeurodialError) and kind is not NeurodialError
]


def test_an_error_says_what_came_what_was_wanted_and_what_to_do():
    error = NeurodialError("The dial is 'high'.", wanted="a number", fix="Try --dial 1.")
    assert str(error) == "The dial is 'high'. Wanted: a number. Try --dial 1."
    assert (error.problem, error.wanted, error.fix) == ("The dial is 'high'.", "a number", "Try --dial 1.")


def test_every_kind_says_so_in_the_same_way_and_is_described():
    assert len(KINDS) >= 10
    assert [kind for kind in KINDS if {"__init__", "__str__", "__new__"} & set(vars(kind)) or not kind.__doc__] == []


def test_what_is_not_known_is_left_out():
    assert str(NeurodialError("It is gone.")) == "It is gone."
    assert str(NeurodialError("It is gone.", fix="Make it again.")) == "It is gone. Make it again."
    assert str(NeurodialError("It is gone.", wanted="it")) == "It is gone. Wanted: it."


def test_a_full_stop_is_not_doubled():
    assert str(NeurodialError("No.", wanted="a number.")) == "No. Wanted: a number."


@pytest.mark.parametrize(
    ("special", "general"),
    [
        (errors.OverlapError, errors.PromptError),
        (errors.ContextLengthError, errors.PromptError),
        (errors.LayoutError, errors.ModelError),
        (errors.ModelMismatchError, errors.ModelError),
        (errors.CircuitFileError, errors.CircuitError),
    ],
)
def test_the_general_kind_catches_the_special_one(special, general):
    assert issubclass(special, general)
    assert not issubclass(general, special)


def test_an_error_survives_the_way_from_another_process():
    error = errors.OptionError("The fraction is 2.", wanted="at most 1", fix="Take 0.001.")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301  # what multiprocessing does
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.problem == "The fraction is 2."


def test_near_names_offers_the_nearest_first_and_all_that_are_known():
    text = near_names("refusel", ["french", "refusal", "over_refusal"])
    assert text == "Did you mean refusal or over_refusal? Known: french, over_refusal, refusal."


def test_near_names_offers_nothing_where_nothing_is_near():
    assert near_names("zzz", ["refusal", "french"]) == "Known: french, refusal."


@given(names=st.lists(st.text("abcdef", min_size=1), min_size=1, unique=True), data=st.data())
def test_near_names_finds_a_name_with_one_letter_too_many(names, data):
    name = data.draw(st.sampled_from(names))
    assert "Did you mean" in near_names(name + "x", [name])
    assert near_names(name, names).endswith(f"Known: {', '.join(sorted(names))}.")
