"""Other methods at the strength that the one search gives them, wherever they are asked for."""

import importlib
from pathlib import Path

import pytest

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import OptionError
from neurodial.evaluation.baselines import baselines
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.options import Evaluation
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import own_answers
from neurodial.intervention.scale import Scale
from neurodial.margins.margin import Openers
from neurodial.methods.comparators import MethodInputs
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet
from neurodial.strength.choose_path import FirstLook
from neurodial.strength.development import Development

STUDIES = Path(__file__).resolve().parents[2] / "studies"
MARGIN = Openers.of([(72,), (73,)])
BUDGET = 0.05


@pytest.fixture(scope="module")
def subject():
    return tiny_subject(seed=3)


@pytest.fixture(scope="module")
def pairs():
    contrasts = [
        Contrast.of([f"{split} rob {n}?" for n in range(6)], [f"{split} bake {n}?" for n in range(6)])
        for split in ("discovery", "development", "test")
    ]
    return PairSet(Behaviour("robbing", detector="refusal", answers=("No.", "Yes.")), tuple(contrasts))


@pytest.fixture(scope="module")
def passages(subject):
    prompts = read_prompt_list("neutral").split("development")[:5]
    return tuple(own_answers(subject, prompts, decoding=Decoding(max_new_tokens=6, batch_size=8)))


@pytest.fixture(scope="module")
def development(subject, pairs, passages):
    return Development(subject, MARGIN, pairs.development.positive[:5], passages, answer_tokens=6)


@pytest.fixture(scope="module")
def inputs(subject, pairs, passages):
    circuit = Circuit.of([Row(Neuron(0, None, 1), 1.0, 1.0)], origin=Origin(subject.identity))
    sides = pairs.discovery.swapped()  # of a random model: the sides on which taking the vector away lowers the margin
    return MethodInputs(subject, sides, pairs.behaviour, lambda: MARGIN, lambda: passages, circuit=circuit)


@pytest.mark.parametrize("name", ["caa", "direction"])
def test_evaluate_and_the_study_choose_the_same_place_and_strength(subject, pairs, development, name, monkeypatch):
    """The study's own code and `evaluate --against`, on the same prompts."""
    monkeypatch.syspath_prepend(str(STUDIES))
    frontier = importlib.import_module("frontier")
    options = Evaluation(
        answers=False, neutral=2, over_refusal=0, perplexity=0, speed=False, development=5, divergence_tokens=6,
        kl_limit=BUDGET, decoding=Decoding(max_new_tokens=2, batch_size=8),
    )  # fmt: skip
    report = evaluate(subject, [], pairs, against=[name], options=options, margin=MARGIN)
    found = report.conditions[1].details

    class Arguments:
        coarse, generate = FirstLook().prompts, BUDGET

    class Common:
        exact = served = subject
        places: dict = {}  # noqa: RUF012
        arguments = Arguments
        options = frontier.Dose()

    Common.development = development
    study = frontier.Seed.__new__(frontier.Seed)
    study.common, study.seed, study.pairs, study.searches = Common, 0, pairs, {}
    intervention, details = study.find(frontier.Key(name, "-", 0, BUDGET, 0))
    chosen = details["development"]
    place = ("layer", "token") if name == "direction" else ("layer",)
    assert [found[key] for key in place] == [chosen[key] for key in place]
    assert found["strength"] == pytest.approx(chosen["strength"], rel=1e-3)
    assert abs(intervention.alpha) == chosen["strength"]
    assert found["development_kl"] <= BUDGET


def test_what_was_chosen_is_told_and_is_not_searched_again(inputs, development):
    [ours] = baselines("caa", inputs, development, BUDGET)
    assert ours.intervention.layer == ours.details["layer"]
    assert abs(ours.intervention.alpha) == ours.details["strength"]
    assert f"alpha {ours.details['strength']:.2g}" in ours.label
    assert ours.details["development_margin"] < ours.details["development_margin_unsteered"]
    assert ours.details["development_kl"] <= BUDGET
    [again] = baselines("caa", inputs, None, BUDGET, known=ours.details)
    assert again.details == ours.details
    assert (again.intervention.layer, again.intervention.alpha) == (ours.intervention.layer, ours.intervention.alpha)
    with pytest.raises(OptionError, match="none of its choices"):
        baselines("caa", inputs, None, BUDGET, known={**ours.details, "layer": 99})


def test_a_larger_budget_goes_further_and_an_impossible_one_is_told(inputs, development):
    near, far, none = (baselines("caa", inputs, development, budget)[0].details for budget in (0.01, 1.0, 1e-9))
    assert near["development_margin"] > far["development_margin"]
    assert (near["within_kl_limit"], none["within_kl_limit"]) == (True, False)
    assert none["strength"] == 0.05


def test_a_system_prompt_has_two_ends_and_no_strength(inputs):
    [ours] = baselines("prompt", inputs, None, BUDGET)
    assert ours.intervention is None
    assert ours.prompts == (ours.details["remove"], ours.details["induce"])


def test_a_search_needs_a_development_split_and_a_control_does_not(inputs):
    with pytest.raises(OptionError, match="development"):
        baselines("caa", inputs, None, BUDGET)
    assert isinstance(baselines("random", inputs, None, BUDGET)[0].intervention, Scale)
