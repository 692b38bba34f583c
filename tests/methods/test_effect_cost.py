"""Closed-form doses: the optimum of what they claim to optimise, within their bounds."""

import dataclasses

import pytest
import torch

from neurodial.circuit.selection import Count, Mass, PerLayer, Threshold
from neurodial.circuit.site import Site
from neurodial.errors import OptionError, UnknownNameError
from neurodial.methods.dose.options import Dose
from neurodial.methods.dose.paths import (
    Bounds,
    EffectCost,
    closed_path,
    predicted_change,
    uniform_path,
)
from neurodial.methods.registry import METHODS, method
from neurodial.methods.scores import Scores

EFFECT = Scores({Site(0): torch.tensor([2.0, -5.0, 1.0, 0.5]), Site(1): torch.tensor([0.1, 3.0])})
COST = Scores({Site(0): torch.tensor([1.0, 0.1, 0.2, 0.0]), Site(1): torch.tensor([0.0, 9.0])})
MEDIAN = 0.2  # of those above 0


def effect_cost():
    return EffectCost.of(EFFECT, COST)


def test_the_cost_is_damped_by_its_median_and_only_positive_effects_count():
    found = effect_cost()
    assert found.damping == pytest.approx(MEDIAN)
    assert found.cost.tolist() == pytest.approx([1.2, 0.3, 0.4, 0.2, 0.2, 9.2])
    assert found.effect.tolist() == pytest.approx([2.0, 0.0, 1.0, 0.5, 0.1, 3.0])
    assert found.best(6) == [0, 2, 3, 5, 4]  # 3.3, 2.5, 1.25, 0.98, 0.05


@pytest.mark.parametrize("strength", [0.01, 0.3, 1.0, 10.0])
def test_each_dose_is_the_best_within_its_bounds_and_the_best_neurons_are_kept(strength):
    found = effect_cost()
    rows = closed_path(found, Count(3), Bounds(x_max=1.5)).rows_at(strength)
    grid = torch.linspace(0, 1.5, 15_001, dtype=torch.float64)
    gains = found.effect[:, None] * grid - found.cost[:, None] * grid**2 / (2 * strength)
    best = gains.max(dim=1)
    expected = best.values.topk(3).indices.tolist()
    places = [4 * row.neuron.layer + row.neuron.index for row in rows]
    assert set(places) == set(expected)
    assert [row.dose for row in rows] == pytest.approx(grid[best.indices][places].tolist(), abs=2e-4)


@pytest.mark.parametrize("strength", [0.01, 0.3, 10.0])
def test_rules_of_selection_go_by_the_gain_at_the_strength(strength):
    found = effect_cost()
    doses = (strength * found.effect / found.cost).clamp(max=1.5)
    gains = (found.effect * doses - found.cost * doses**2 / (2 * strength)).tolist()

    def places(select):
        rows = closed_path(found, select, Bounds(x_max=1.5)).rows_at(strength)
        return {4 * row.neuron.layer + row.neuron.index for row in rows}

    largest = max(gains)
    assert places(Threshold(0.3)) == {place for place, gain in enumerate(gains) if gain >= 0.3 * largest}
    assert places(PerLayer(1)) == {gains.index(max(gains[:4])), gains.index(max(gains[4:]))}
    held = sum(gains[place] for place in places(Mass(0.6)))
    assert 0.6 * sum(gains) <= held <= sum(gains)
    assert held - min(gains[place] for place in places(Mass(0.6))) < 0.6 * sum(gains)


def test_small_doses_rank_by_ratio_and_large_ones_by_effect():
    path = closed_path(effect_cost(), Count(2), Bounds(x_max=1.5))
    assert [row.neuron.index for row in path.rows_at(path.low)] == [0, 2]
    strongest = path.rows_at(1e6)
    assert {tuple(row.neuron) for row in strongest} == {(1, None, 1), (0, None, 0)}
    assert all(row.dose == 1.5 for row in strongest)


def test_a_path_runs_from_small_doses_to_the_bound():
    path = closed_path(effect_cost(), Count(3), Bounds(x_max=2.0))
    assert max(row.dose for row in path.rows_at(path.low)) <= 0.0201
    assert all(row.dose == pytest.approx(2.0) for row in path.rows_at(path.high))


def test_inducing_doses_are_negative():
    rows = closed_path(effect_cost(), Count(3), Bounds(2.0, "induce")).rows_at(0.5)
    removing = closed_path(effect_cost(), Count(3), Bounds(2.0)).rows_at(0.5)
    assert [-row.dose for row in rows] == [row.dose for row in removing]
    assert all(row.dose < 0 for row in rows)


def test_skipped_layers_and_other_choices_hold_no_neuron():
    rows = closed_path(EffectCost.of(EFFECT, COST, skip_layers=(0,)), Count(3), Bounds(2.0)).rows_at(1.0)
    assert {row.neuron.layer for row in rows} == {1}
    among = closed_path(effect_cost(), Count(3), Bounds(2.0), among=[3, 4]).rows_at(1.0)
    assert {4 * row.neuron.layer + row.neuron.index for row in among} == {3, 4}


def test_neurons_that_hold_the_behaviour_down_take_part_where_they_may():
    both, down = EffectCost.of(EFFECT, COST, sign="both"), EffectCost.of(EFFECT, COST, sign="negative")
    assert both.effect.tolist() == pytest.approx(EFFECT.flat().abs().tolist())
    assert both.best(6) == [1, 0, 2, 3, 5, 4]  # 125 first
    assert down.best(6) == [1]
    rows = closed_path(both, Count(3), Bounds(2.0)).rows_at(1e6)
    assert {(row.neuron.layer, row.neuron.index): row.dose for row in rows} == {(0, 1): -2.0, (0, 0): 2.0, (1, 1): 2.0}
    induced = closed_path(both, Count(3), Bounds(2.0, "induce")).rows_at(1e6)
    assert [row.dose for row in induced] == [-row.dose for row in rows]
    uniform = uniform_path(both.rows(both.best(2), [1.0, 1.0]), Bounds(3.0)).rows_at(0.7)
    assert [row.dose for row in uniform] == [-0.7, 0.7]


def test_what_both_signs_are_predicted_to_do_is_the_sum_of_what_each_does():
    found = EffectCost.of(EFFECT, COST, sign="both")
    rows = found.rows([1, 0], [0.1, 0.2])
    assert predicted_change(EFFECT, rows) == pytest.approx(-0.5 - 0.4)


def test_one_dose_for_all():
    found = effect_cost()
    path = uniform_path(found.rows(found.best(2), [1.0, 1.0]), Bounds(3.0))
    assert [row.dose for row in path.rows_at(0.7)] == [0.7, 0.7]
    assert (path.high, path.rows_at(9.0)[0].dose) == (3.0, 3.0)


def test_nothing_to_choose_from_is_refused():
    with pytest.raises(OptionError, match="No neuron holds the behaviour up"):
        EffectCost.of(Scores({Site(0): torch.tensor([-1.0])}), Scores({Site(0): torch.tensor([1.0])}))
    with pytest.raises(OptionError, match="holds the behaviour down: no effect is negative"):
        EffectCost.of(Scores({Site(0): torch.tensor([1.0])}), Scores({Site(0): torch.tensor([1.0])}), sign="negative")
    with pytest.raises(OptionError, match="No neuron changes the neutral answers"):
        EffectCost.of(Scores({Site(0): torch.tensor([1.0])}), Scores({Site(0): torch.tensor([0.0])}))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"budget": 0.0}, "budget is 0"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"margin_target": float("inf")}, "margin target is inf"),
        ({"x_max": 0.0}, "largest dose is 0"),
        ({"draws": 0}, "draws is 0"),
        ({"answer_tokens": 0}, "answer_tokens is 0"),
        ({"folds": 1}, "folds is 1"),
    ],
)
def test_options_that_make_no_sense(options, text):
    with pytest.raises(OptionError, match=text):
        Dose(**options)


def test_unknown_choices_offer_near_ones():
    with pytest.raises(UnknownNameError, match="Did you mean dose"):
        method("dosis")
    assert method("dose") == Dose()
    assert set(METHODS) == {"cna", "cna-reference", "dose", "single"}
    assert dataclasses.replace(Dose(), x_max=2.0) != Dose()
