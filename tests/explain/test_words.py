"""Words are scored: those for a neuron whose meaning is known near 1, those for a random one near chance."""

import pytest
from tests.explain.digits import DIGITS, answer, circuit, digit_subject, judge, texts

from neurodial.evaluation.detectors.endpoint import Endpoint
from neurodial.evaluation.report.html_page import render_page
from neurodial.explain.explain_circuit import explain_circuit
from neurodial.explain.explain_page import explanation_page
from neurodial.explain.explainer import ServedExplainer
from neurodial.explain.options import Explaining
from neurodial.explain.put_into_words import Wording, level_of

OPTIONS = Explaining(places=12)


def worded(says=answer, **fields):
    subject = digit_subject()
    with judge(says) as url:
        endpoint = Endpoint(url, "fake", retries=0, timeout=10.0)
        wording = Wording(ServedExplainer(endpoint), places=8, held_out=12, **fields)
        explanation = explain_circuit(subject, circuit(), texts(subject, 200), options=OPTIONS, wording=wording)
    by_place = {neuron.index: neuron.words for neuron in explanation.neurons}
    return explanation, by_place


def test_a_digit_neurons_words_score_near_one_and_a_random_neurons_near_chance():
    _, words = worded()
    known, random = words[DIGITS.index], words[9]
    assert known.text == "digits"
    assert known.detection == 1.0
    assert known.detection_n == 24
    assert known.detection_low > 0.8
    assert known.simulation > 0.95
    assert known.simulation_chance < 0.3
    assert random.detection < 0.8
    assert random.simulation < 0.4
    assert "of 24 places (chance 50 %)" in known.verdict


def test_a_wrong_explanation_of_a_digit_neuron_scores_at_chance():
    def wrong(prompt):
        return "vowels" if "Say in one short sentence" in prompt else answer(prompt)

    _, words = worded(wrong)
    assert words[DIGITS.index].detection <= 0.6
    assert words[DIGITS.index].simulation < 0.3


def test_the_judge_sees_the_words_and_no_place_that_they_were_made_from():
    seen = []

    def watch(prompt):
        seen.append(prompt)
        return answer(prompt)

    worded(watch)
    explaining = [prompt for prompt in seen if "Say in one short sentence" in prompt]
    assert len(explaining) == 3  # two neurons and the circuit's drive
    detecting = next(p for p in seen if "Below are numbered" in p and "digits" in p)
    assert detecting.count(">>") == detecting.count("<<") == 25  # 24 places, and the question
    assert "[10]" not in detecting


def test_words_without_a_score_are_not_shown():
    def mute(prompt):
        return "something about lemons" if "Say in one short sentence" in prompt else "I would rather not say."

    explanation, words = worded(mute)
    assert words[DIGITS.index].text == "something about lemons"
    assert not words[DIGITS.index].is_scored
    assert any("not understood" in problem for problem in words[DIGITS.index].problems)
    html = render_page(explanation_page(explanation))
    assert "lemons" not in html
    assert "nothing that could be scored" in html


def test_a_server_that_is_down_loses_nothing_but_the_words():
    subject = digit_subject()
    endpoint = Endpoint("http://127.0.0.1:9/v1", "fake", retries=0, timeout=2.0)
    explanation = explain_circuit(subject, circuit(), texts(subject), wording=Wording(ServedExplainer(endpoint)))
    words = explanation.neurons[0].words
    assert (words.text, words.detection, words.simulation) == ("", None, None)
    assert any("judge failed" in problem for problem in words.problems)
    assert explanation.neurons[0].firing.strongest


def test_shown_words_stand_with_their_score():
    explanation, _ = worded()
    html = render_page(explanation_page(explanation))
    place = html.index("digits — detection 100 %")
    assert "chance 50 %" in html[place : place + 200]
    assert "fake" in html[place - 100 : place]
    assert explanation.words is not None


@pytest.mark.parametrize(("value", "level"), [(0.04, 0), (0.06, 1), (1.0, 10)])
def test_levels_are_tenths_of_the_strongest(value, level):
    assert level_of(value, 1.0) == level
