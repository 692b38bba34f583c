"""What doses follow: signs and mixtures, and the effects taken from folds."""

import pytest
import torch

from neurodial.circuit.site import Site
from neurodial.margins.margin import Openers
from neurodial.margins.own_answers import find_own_answers
from neurodial.methods.dose.effect import effect, effect_scores
from neurodial.methods.dose.effects import Effects, effects_by_fold
from neurodial.methods.scores import Scores
from neurodial.model.tiny import tiny_subject
from neurodial.prompts.pairs import Contrast
from neurodial.prompts.prompt import Example


def scores(*values):
    return Scores({Site(0): torch.tensor(values, dtype=torch.float64)})


MARGIN, REFERENCE = scores(2.0, 1.0, -1.0), scores(0.5, -3.0, 0.25)


@pytest.mark.parametrize(
    ("direction", "mixture", "expected"),
    [
        ("remove", "margin", [2.0, 1.0, -1.0]),
        (
            "remove",
            "reference",
            [-0.5, 3.0, -0.25],
        ),  # what keeps reference answers unlikely is turned down
        ("remove", "margin and reference", [1.5, 4.0, -1.25]),
        ("induce", "margin", [2.0, 1.0, -1.0]),
        ("induce", "reference", [0.5, -3.0, 0.25]),  # doses are negative: what makes them likely is turned up
        ("induce", "margin and reference", [2.5, -2.0, -0.75]),
    ],
)
def test_every_mixture_lowers_or_raises_the_margin_and_makes_reference_answers_likelier(direction, mixture, expected):
    assert Effects(MARGIN, REFERENCE, direction).along(mixture).flat().tolist() == expected


def test_without_reference_answers_there_is_the_margin_alone():
    effects = Effects(MARGIN, None, "remove")
    assert effects.mixtures == ("margin",)
    assert Effects(MARGIN, REFERENCE, "remove").mixtures == ("margin", "margin and reference", "reference")


def test_effects_are_taken_of_the_margin_and_of_its_reference_from_the_folds_asked_for():
    subject = tiny_subject()
    texts = [(f"say {n}!", f"say {n}?") for n in range(4)]
    positive = [Example(first, counterpart=second) for first, second in texts]
    margin = find_own_answers(
        subject, [Contrast.of(positive, [Example(second, counterpart=first) for first, second in texts])]
    )
    folds = [0, 1, 0, 1]
    of = effects_by_fold(subject, margin, positive, "remove", folds=folds)
    for chosen in ([0], [0, 1]):
        kept = [example for example, fold in zip(positive, folds, strict=True) if fold in chosen]
        for found, one in ((of(chosen).margin, margin), (of(chosen).reference, margin.reference("remove"))):
            expected = effect_scores(effect(subject, one, kept), subject.sites).flat()
            torch.testing.assert_close(found.flat(), expected, rtol=1e-4, atol=1e-6)
    assert effects_by_fold(subject, Openers.of([(40,)]), positive, "remove")([0]).reference is None
