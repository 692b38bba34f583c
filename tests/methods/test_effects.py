"""What doses are pushed along: signs and mixtures, and the effects taken from folds."""

import pytest
import torch

from neurodial.circuit.site import Site
from neurodial.margins.margin import Openers
from neurodial.margins.own_answers import find_twins
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.methods.dose.effects import Effects, effects_by_fold
from neurodial.methods.scores import Scores
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Example


def scores(*values):
    return Scores({Site(0): torch.tensor(values, dtype=torch.float64)})


MARGIN, AIM = scores(2.0, 1.0, -1.0), scores(0.5, -3.0, 0.25)


@pytest.mark.parametrize(
    ("direction", "push", "expected"),
    [
        ("remove", "margin", [2.0, 1.0, -1.0]),
        ("remove", "aim", [-0.5, 3.0, -0.25]),  # a neuron that keeps the answers aimed for unlikely is turned down
        ("remove", "margin and aim", [1.5, 4.0, -1.25]),
        ("induce", "margin", [2.0, 1.0, -1.0]),
        ("induce", "aim", [0.5, -3.0, 0.25]),  # doses are negative: what makes them likely is turned up
        ("induce", "margin and aim", [2.5, -2.0, -0.75]),
    ],
)
def test_every_push_lowers_or_raises_the_margin_and_makes_what_is_aimed_for_likelier(direction, push, expected):
    assert Effects(MARGIN, AIM, direction).along(push).flat().tolist() == expected


def test_without_an_aim_there_is_the_margin_alone():
    effects = Effects(MARGIN, None, "remove")
    assert effects.pushes == ("margin",)
    assert Effects(MARGIN, AIM, "remove").pushes == ("margin", "margin and aim", "aim")


def test_the_mean_weighs_both_parts():
    other = Effects(scores(0.0, 0.0, 3.0), scores(4.0, 1.0, 0.25), "remove")
    mean = Effects(MARGIN, AIM, "remove").mean_with(other, 0.25)
    assert mean.margin.flat().tolist() == [1.5, 0.75, 0.0]
    assert mean.aim.flat().tolist() == [1.375, -2.0, 0.25]
    assert Effects(MARGIN, None, "remove").mean_with(Effects(AIM, None, "remove"), 0.5).aim is None


def test_effects_are_taken_of_the_margin_and_of_its_aim_from_the_folds_asked_for():
    subject = tiny_subject()
    texts = [(f"say {n}!", f"say {n}?") for n in range(4)]
    positive = [Example(first, twin=second) for first, second in texts]
    margin = find_twins(subject, [Contrast.of(positive, [Example(second, twin=first) for first, second in texts])])
    folds = [0, 1, 0, 1]
    of = effects_by_fold(subject, margin, positive, "remove", folds=folds)
    for chosen in ([0], [0, 1]):
        kept = [example for example, fold in zip(positive, folds, strict=True) if fold in chosen]
        for found, one in ((of(chosen).margin, margin), (of(chosen).aim, margin.aim("remove"))):
            expected = effect_scores(effect(subject, one, kept), subject.sites).flat()
            torch.testing.assert_close(found.flat(), expected, rtol=1e-4, atol=1e-6)
    assert effects_by_fold(subject, Openers.of([(40,)]), positive, "remove")([0]).aim is None
