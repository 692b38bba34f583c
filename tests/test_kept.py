"""Finished pieces of long work are read, not made again; a stopped search ends as one that was not."""

import dataclasses
import json

import pytest
import torch
from tests.subjects import shared

import neurodial as nd
from neurodial.circuit.file import circuit_json
from neurodial.generation import generate as generating
from neurodial.kept import KeptForm, keeping, kept
from neurodial.prompts.pairs import PairSet
from neurodial.strength.development import Development

PLAIN = KeptForm(lambda value: (value, {}), lambda plain, tensors, arguments: plain)
METHOD = nd.Dose(budget=0.5, folds=2, draws=1, passages=6, answer_tokens=4, select=nd.Count(2), sign="positive")


@pytest.fixture
def pairs():
    return PairSet.read("refusal").first(6)


def counted():
    asked = []

    @kept("counted", PLAIN)
    def made(number, *, progress=None):
        asked.append(number)
        return number + 0.1

    return made, asked


def stopped(folder, work, model=None):
    """Do some work, then stop by hand."""

    def run():
        with keeping(folder, model):
            work()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


def test_what_was_asked_before_is_read_and_the_folder_goes_at_the_end(tmp_path):
    made, asked = counted()
    stopped(tmp_path / "x", lambda: (made(1), made(2)))
    with keeping(tmp_path / "x"):
        assert [made(1), made(number=2, progress=print), made(3)] == [1.1, 2.1, 3.1]
    assert asked == [1, 2, 3]
    assert not (tmp_path / "x").exists()


def test_another_model_is_another_question(tmp_path):
    made, asked = counted()
    identity = shared().identity
    for model in (identity, dataclasses.replace(identity, digest="other")):
        stopped(tmp_path / "x", lambda: made(1), model)
    assert asked == [1, 1]


def test_outside_a_block_and_for_what_cannot_be_written_down_nothing_is_kept(tmp_path):
    made, asked = counted()
    made(1)
    with keeping(tmp_path / "x"):
        made(1, progress=None)
        assert made.__wrapped__(torch.ones(1)) is not None
        with pytest.raises(TypeError):
            json.dumps(torch.ones(1))
        made(torch.zeros(1))
        made(torch.zeros(1))
    assert len(asked) == 5


def test_a_piece_that_was_cut_off_is_made_again(tmp_path):
    made, asked = counted()
    stopped(tmp_path / "x", lambda: made(1))
    [file] = (tmp_path / "x").glob("*.json")
    file.write_text("1.")
    with keeping(tmp_path / "x"):
        assert made(1) == 1.1
    assert asked == [1, 1]


@pytest.mark.parametrize("stopped_after", [0, 1])
def test_a_stopped_search_goes_on_and_ends_as_one_that_was_not(pairs, tmp_path, monkeypatch, stopped_after):
    whole = nd.discover(shared(), pairs, method=METHOD)
    trials, calls = Development.trials, []

    def breaks(self, *args):
        if len(calls) == stopped_after:
            raise KeyboardInterrupt
        calls.append(args)
        return trials(self, *args)

    monkeypatch.setattr(Development, "trials", breaks)
    with pytest.raises(KeyboardInterrupt), keeping(tmp_path / "x", shared().identity):
        nd.discover(shared(), pairs, method=METHOD)
    monkeypatch.setattr(Development, "trials", trials)
    left = sum(1 for _ in (tmp_path / "x").glob("*.json"))
    monkeypatch.setattr(generating, "_generate_batch", lambda *args: pytest.fail("answered again"))
    monkeypatch.setattr("neurodial.model.gradients.backward", lambda *args, **kwargs: pytest.fail("gradients again"))
    with keeping(tmp_path / "x", shared().identity):
        resumed = nd.discover(shared(), pairs, method=METHOD)
    assert left >= 4 + stopped_after, "answers, effects, costs, and what the search measured"
    assert without_time(resumed) == without_time(whole)


def without_time(circuit):
    values = json.loads(circuit_json(circuit))
    values.pop("created")
    values["report"].pop("seconds", None)
    return values
