"""A detector derived from the prompts: it learns what sets the sides apart, says how well, and refuses to guess."""

from dataclasses import replace

import pytest

from neurodial.errors import OptionError
from neurodial.evaluation.detectors import derived
from neurodial.evaluation.detectors.base import Exchange
from neurodial.evaluation.detectors.derived import derived_detector
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.options import Evaluation
from neurodial.generation.decoding import Decoding
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Contrast, PairSet
from neurodial.text.answer_classifier import AnswerClassifier

LISTS = [f"- {a}\n- {b}\n- {c}" for a, b, c in zip("abcdefgh", "ijklmnop", "qrstuvwx", strict=True)]
PROSE = [
    f"You take {a}, then {b}, and last of all {c}." for a, b, c in zip("abcdefgh", "ijklmnop", "qrstuvwx", strict=True)
]


class Said:
    def __init__(self, text):
        self.text = text


@pytest.fixture
def pairs():
    return PairSet.of([f"list {n}" for n in range(40)], [f"tell {n}" for n in range(40)], name="lists")


def answering(monkeypatch, answer):
    monkeypatch.setattr(derived, "generate", lambda _, prompts, **__: [Said(answer(prompt)) for prompt in prompts])


def by_side(prompt):
    return (LISTS if prompt.startswith("list") else PROSE)[int(prompt.split()[1]) % 8]


def test_a_classifier_tells_unseen_answers_apart_by_form_and_by_words():
    classifier = AnswerClassifier.fit(LISTS[:6], PROSE[:6])
    assert min(classifier.probability(text) for text in LISTS[6:]) > 0.5
    assert max(classifier.probability(text) for text in PROSE[6:]) < 0.5
    swapped = AnswerClassifier.fit(PROSE[:6], LISTS[:6])
    assert swapped.probability(LISTS[7]) == pytest.approx(1 - classifier.probability(LISTS[7]), abs=1e-3)
    lopsided = AnswerClassifier.fit(LISTS[:6], PROSE[:2])  # a side of more answers does not win by that
    assert max(lopsided.probability(text) for text in PROSE[6:]) < 0.5


def test_the_detector_says_how_well_it_does_on_held_out_answers(monkeypatch, pairs):
    answering(
        monkeypatch, lambda prompt: LISTS[int(prompt[5:]) % 8] if prompt[0] == "l" else PROSE[int(prompt[5:]) % 8]
    )
    detector = derived_detector(tiny_subject(), pairs)
    assert "100%" in detector.description
    assert "n = 16" in detector.description
    listed, told = detector.judge(
        [Exchange("x", "- one\n- two\n- three"), Exchange("x", "You take one, then another.")]
    )
    assert (listed.label, told.label) == ("shown", "absent")
    assert listed.score > 0.5 > told.score
    looping, _ = detector.judge([Exchange("x", "a b c d " * 30), Exchange("x", "fine")])
    assert looping.label == "degenerate"


def test_sides_that_are_answered_alike_are_refused(monkeypatch, pairs):
    answering(monkeypatch, lambda prompt: PROSE[int(prompt[5:]) % 8])
    with pytest.raises(OptionError, match=r"'lists' is recognised.*held-out answers apart.*Name one"):
        derived_detector(tiny_subject(), pairs)


def test_an_evaluation_without_a_detector_derives_one_and_never_counts_refusals(monkeypatch, pairs):
    answering(
        monkeypatch, lambda prompt: LISTS[int(prompt[5:]) % 8] if prompt[0] == "l" else PROSE[int(prompt[5:]) % 8]
    )
    small = Evaluation(
        decoding=Decoding(max_new_tokens=2), prompts=2, neutral=2, over_refusal=0, perplexity=0, speed=False,
        margin="none",
    )  # fmt: skip
    report = evaluate(tiny_subject(), [], pairs, options=small)
    assert list(report.detectors) == ["derived"]
    assert "rate:derived" in report.conditions[0].metrics
    named = replace(small, detectors=("regex:x",))
    assert list(evaluate(tiny_subject(), [], pairs, options=named).detectors) == ["regex:x"]
    with pytest.raises(OptionError, match="Nothing says how the behaviour 'custom' is recognised"):
        evaluate(tiny_subject(), [], Contrast.of(["a"], ["b"]), options=small)
