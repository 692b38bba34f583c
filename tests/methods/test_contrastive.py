"""Contrastive scores against numpy and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurodial.activations.statistics import GroupedMoments
from neurodial.circuit.site import Neuron, Site
from neurodial.errors import ActivationError
from neurodial.methods.cna.contrastive import auroc, delta_scores
from neurodial.methods.scores import Scores


def sides(seed, positive=9, negative=7, neurons=40):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(-2, 2, neurons)
    first = torch.randn(positive, neurons, generator=generator) * scale + 0.3
    return first, torch.randn(negative, neurons, generator=generator) * scale


def scored(first, second, score):
    moments = GroupedMoments([0] * len(first) + [1] * len(second), 2)
    moments.add(Site(0), torch.cat([first, second]), tuple(range(len(first) + len(second))))
    return delta_scores(moments, [Site(0)], [0], [1], score=score)[Site(0)]


def test_delta_is_the_difference_of_the_means():
    first, second = sides(0)
    expected = first.double().mean(dim=0) - second.double().mean(dim=0)
    torch.testing.assert_close(scored(first, second, "delta"), expected, rtol=1e-12, atol=1e-12)


def test_standardised_is_students_t_without_the_sample_size():
    """`t = d / sqrt(1/n + 1/m)` with the pooled deviation; the floor under the deviation is taken out by hand."""
    first, second = sides(1)
    n, m = len(first), len(second)
    student = stats.ttest_ind(first.double().numpy(), second.double().numpy(), equal_var=True).statistic
    cohen = student * np.sqrt(1 / n + 1 / m)
    squares = first.double().numpy().var(axis=0) * n + second.double().numpy().var(axis=0) * m
    deviation = np.sqrt(squares / (n + m - 2))
    floor = 1e-6 + np.sort(deviation)[(len(deviation) - 1) // 2] * 1e-2
    expected = cohen * deviation / (deviation + floor)
    np.testing.assert_allclose(scored(first, second, "standardised").numpy(), expected, rtol=1e-9)
    assert not np.allclose(expected, scored(first, second, "delta").numpy(), rtol=0.1)


def test_standardised_does_not_reward_a_neuron_that_hardly_varies():
    first, second = sides(2)
    first[:, 0], second[:, 0] = 1e-7, 0.0
    found = scored(first, second, "standardised")
    assert float(found[0].abs()) < 0.01
    assert bool(torch.isfinite(found).all())


def test_standardised_has_no_unit():
    first, second = sides(3, neurons=8)
    torch.testing.assert_close(
        scored(first * 1000, second * 1000, "standardised"), scored(first, second, "standardised"), rtol=1e-2, atol=1e-3
    )


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_auroc_is_mann_whitneys_u(data):
    """With ties: the values come from a handful of numbers."""
    n, m = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    few = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
    first = torch.tensor(data.draw(st.lists(st.lists(few, min_size=3, max_size=3), min_size=n, max_size=n)))
    second = torch.tensor(data.draw(st.lists(st.lists(few, min_size=3, max_size=3), min_size=m, max_size=m)))
    wins = stats.mannwhitneyu(first.double(), second.double(), method="asymptotic").statistic
    expected = wins / (n * m) - 0.5
    np.testing.assert_allclose(auroc(first, second).numpy(), expected, atol=1e-12)


def test_auroc_of_many_continuous_values():
    first, second = sides(4, positive=40, negative=30)
    wins = stats.mannwhitneyu(first.double(), second.double(), method="asymptotic").statistic
    expected = wins / 1200 - 0.5
    np.testing.assert_allclose(auroc(first, second).numpy(), expected, atol=1e-12)


def test_one_prompt_a_side_is_enough():
    first, second = sides(5, positive=1, negative=1)
    torch.testing.assert_close(scored(first, second, "delta"), (first - second)[0].double(), rtol=1e-6, atol=1e-6)
    assert bool(torch.isfinite(scored(first, second, "standardised")).all())


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ActivationError, match="Layer 3 has scores that are not finite"):
        Scores({Site(0): torch.ones(2), Site(3): torch.tensor([1.0, torch.nan])})


def test_layers_may_differ_in_width():
    scores = Scores({Site(1): torch.tensor([3.0]), Site(0): torch.tensor([1.0, 2.0])})
    assert scores.flat().tolist() == [1.0, 2.0, 3.0]
    assert [scores.neuron(place) for place in range(3)] == [Neuron(0, None, 0), Neuron(0, None, 1), Neuron(1, None, 0)]
    assert scores.places_of([Neuron(1, None, 0), Neuron(0, None, 1), Neuron(0, None, 0)]) == [2, 1, 0]
    assert scores.neurons == 3
    with pytest.raises(IndexError):
        scores.neuron(3)
