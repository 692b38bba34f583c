"""By which margin a run searches and reports: what the circuits were found with, unless told otherwise."""

from dataclasses import replace

import pytest

import neurodial as nd
from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import MarginError, OptionError
from neurodial.evaluation.margin_of_run import direction_of, margin_of_run
from neurodial.evaluation.options import Evaluation
from neurodial.evaluation.task import task_of
from neurodial.margins.behaviour_margin import BehaviourMargin, recorded_margin
from neurodial.margins.margin import Alternatives, AnswerMargin, ClassifierLogit, Openers
from neurodial.margins.measure import measure_margins
from neurodial.margins.own_answers import OwnAnswerMargin, find_own_answers
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet
from neurodial.prompts.prompt import Example

OPENERS = Openers(((40, 41), (50,)), ("No", "Sorry"), 0.75, 0.25)
WAY_OUT = Alternatives(Openers(((60,),), ("Sure",), 0.5, 0.125), OPENERS)


def side(word, other, answers=True):
    texts = ("no", "yes, so") if answers else (None, None)
    return tuple(Example(f"{word} {n}", "", *texts, counterpart=f"{other} {n}") for n in range(3))


def paired(behaviour):
    sides = [(side(f"bad {split}", f"good {split}"), side(f"good {split}", f"bad {split}")) for split in "abc"]
    return PairSet(behaviour, tuple(Contrast(*both) for both in sides))


@pytest.fixture(scope="module")
def subject():
    return tiny_subject()


@pytest.fixture(scope="module")
def pairs():
    contrasts = tuple(
        Contrast(side(f"bad {split}", f"good {split}"), side(f"good {split}", f"bad {split}")) for split in "abc"
    )
    return PairSet(Behaviour("tone", margin="answer", detector="formality"), contrasts)


def circuit(subject, margin=None, name="mine", **changes):
    record = None if margin is None else BehaviourMargin.of(margin, kind=kind_of(margin)).record()
    return Circuit.of(
        [Row(Neuron(0, None, 1), 1.0, 1.0)], name=name, origin=Origin(subject.identity, margin=record), **changes
    )


def kind_of(margin):
    kinds: dict[type, str] = {
        Alternatives: "alternatives",
        Openers: "openers",
        AnswerMargin: "answer",
        OwnAnswerMargin: "own-answers",
    }
    return kinds.get(type(margin), "given")


def chosen(subject, pairs, circuits, **options):
    task = task_of(pairs, Evaluation(**options))
    return margin_of_run(subject, task, circuits, Evaluation(**options))


@pytest.mark.parametrize("margin", [OPENERS, WAY_OUT, Alternatives(OPENERS), AnswerMargin()])
def test_what_a_circuit_records_comes_back(subject, pairs, margin):
    found, text = chosen(subject, pairs, [circuit(subject, margin)])
    assert found.pushed == margin
    assert text == found.text
    again = recorded_margin(found.record(), subject, pairs.behaviour, [])
    assert again.pushed == margin


def test_own_answers_are_made_again_for_the_prompts_of_the_run(subject, pairs):
    margin = find_own_answers(subject, [pairs.discovery])
    found, _ = chosen(subject, pairs, [circuit(subject, margin)])
    assert isinstance(found.pushed, OwnAnswerMargin)
    assert len(measure_margins(subject, found.pushed, pairs.test.positive)) == 3
    with pytest.raises(MarginError):
        measure_margins(subject, margin, pairs.test.positive)


def test_a_circuit_without_a_record_takes_what_the_prompt_set_says(subject, pairs):
    for one in (circuit(subject), circuit(subject, ClassifierLogit(lambda hidden: hidden[-1].sum()))):
        found, _ = chosen(subject, pairs, [one])
        assert found.pushed == AnswerMargin()


def test_circuits_of_different_margins_are_not_mixed_in_silence(subject, pairs):
    mixed = [circuit(subject, OPENERS, "a"), circuit(subject, WAY_OUT, "b")]
    with pytest.raises(OptionError, match=r"different margins \('a': openers; 'b': alternatives\).*--margin"):
        chosen(subject, pairs, mixed)
    found, _ = chosen(subject, pairs, mixed, margin="answer")
    assert found.pushed == AnswerMargin()
    same = [circuit(subject, OPENERS, "a"), circuit(subject, OPENERS, "b")]
    assert chosen(subject, pairs, same)[0].pushed == OPENERS
    other = replace(subject.identity, tokenizer_hash="f" * 64)
    foreign = replace(mixed[1], origin=replace(mixed[1].origin, model=other))
    assert chosen(subject, pairs, [mixed[0], foreign])[0].pushed == OPENERS  # tokens of another tokenizer say nothing


def test_none_is_measured_where_none_is_asked_for_or_can_be_had(subject, pairs):
    assert chosen(subject, pairs, [circuit(subject, OPENERS)], margin="none") == (None, "not measured")
    task = task_of(pairs, Evaluation())
    found, _ = margin_of_run(subject, task, [], Evaluation(margin="none"), is_needed=True)
    assert (found.pushed, found.reported) == (AnswerMargin(), None)
    bare = PairSet(Behaviour("x", detector="formality"), (None, None, pairs.test))
    found, text = chosen(subject, bare, [])
    assert found is None
    assert "no discovery prompts" in text
    with pytest.raises(MarginError):
        margin_of_run(subject, task_of(bare, Evaluation()), [], Evaluation(), is_needed=True)


def test_a_record_that_makes_no_sense_is_refused(subject, pairs):
    strange = replace(circuit(subject), origin=Origin(subject.identity, margin={"kind": "psychic"}))
    with pytest.raises(MarginError, match="psychic"):
        margin_of_run(subject, task_of(pairs, Evaluation()), [strange], Evaluation(), is_needed=True)


def test_the_direction_is_the_circuits(subject):
    down, up = circuit(subject), circuit(subject, direction="induce")
    assert direction_of([up, up]) == "induce"
    assert direction_of([down, up]) == direction_of([]) == "remove"


def test_discovery_writes_down_the_behaviour_and_the_margin_and_evaluation_repeats_it(subject, tmp_path):
    neutral = tmp_path / "plain.txt"
    neutral.write_text("\n".join(f"tell me {number}" for number in range(6)))
    contrasts = tuple(Contrast(side(f"b {split}", f"g {split}"), side(f"g {split}", f"b {split}")) for split in "abc")
    pairs = PairSet(Behaviour("pace", detector="formality"), contrasts)
    method = nd.Dose(
        select=nd.Count(4), neutral=str(neutral), answer_tokens=4, folds=0, margin="own-answers", budget=5.0
    )
    found = nd.discover(subject, pairs, method=method)
    found = nd.Circuit.read(found.write(tmp_path / "a.circuit.json"))
    assert (found.origin.behaviour, found.origin.margin["kind"]) == ("pace", "own-answers")
    small = Evaluation(answers=False, neutral=0, perplexity=0, over_refusal=0, speed=False)
    report = nd.evaluate(subject, [nd.Scale(found)], pairs, options=small)
    margin = find_own_answers(subject, [pairs.test])
    values = measure_margins(subject, margin, pairs.test.positive, under=nd.Scale(found))
    assert report.conditions[1].metrics["margin"].value == pytest.approx(sum(values) / len(values), abs=1e-4)
    assert "own answer" in report.settings["margin_is"]
    cna = nd.discover(subject, pairs, method=nd.CNA(universal=None, folds=0))
    assert (cna.origin.behaviour, cna.origin.margin) == ("pace", None)
