"""Every rule of selection: best first, nested, ties by place, never what may not be taken; and a rule of one's own."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neurodial as nd
from neurodial.circuit.selection import (
    SELECTION_RULES,
    Select,
    default_value,
    parse_select,
    show_select,
    strongest,
    value_type,
)
from neurodial.circuit.site import Site
from neurodial.errors import OptionError, UnknownNameError
from neurodial.methods.choose import Rule, choose
from neurodial.methods.scores import Scores

# Few different values, so that ties are common; minus infinity may not be taken.
PLACES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0, -torch.inf])), min_size=1, max_size=20
).map(lambda places: sorted(places, key=lambda place: place[0]))
# From the fewest to the most.
RISING = {
    "fraction": [0.01, 0.1, 0.5, 1.0],
    "count": [1, 2, 5, 40],
    "threshold": [1.0, 0.7, 0.4, 0.1],
    "per-layer": [1, 2, 3, 40],
    "mass": [0.01, 0.3, 0.8, 1.0],
}


def of(name, value):
    return parse_select(f"{name}:{value}")


def taken(rule, places):
    strength = torch.tensor([strength for _, strength in places], dtype=torch.float64)
    return rule.choose(strength, torch.tensor([layer for layer, _ in places])).tolist()


def best_first(places, chosen):
    return sorted(chosen, key=lambda place: (-places[place][1], place))


@given(PLACES)
@pytest.mark.parametrize("name", RISING)
def test_choices_are_nested_best_first_and_allowed(name, places):
    before: list[int] = []
    for value in RISING[name]:
        chosen = taken(of(name, value), places)
        assert chosen == best_first(places, chosen)
        assert all(places[place][1] > -torch.inf for place in chosen)
        assert set(before) <= set(chosen)
        before = chosen


@given(PLACES)
@pytest.mark.parametrize("name", ["fraction", "count", "threshold", "mass"])
def test_all_but_per_layer_take_the_top_of_one_list(name, places):
    """What is left out is no stronger than what is taken, ties by place: so these rules are nested in each other."""
    order = best_first(places, [place for place in range(len(places)) if places[place][1] > -torch.inf])
    for value in RISING[name]:
        chosen = taken(of(name, value), places)
        assert chosen == order[: len(chosen)]


@given(PLACES, st.integers(1, 6))
def test_so_many_in_each_layer(places, count):
    chosen = taken(nd.PerLayer(count), places)
    for layer in {layer for layer, _ in places}:
        inside = [place for place in range(len(places)) if places[place][0] == layer and places[place][1] > -torch.inf]
        assert [place for place in chosen if place in inside] == best_first(places, inside)[:count]


@given(PLACES, st.floats(0.01, 1))
def test_a_threshold_is_a_share_of_the_strongest_or_of_the_whole(places, share):
    largest = max(strength for _, strength in places)
    strength = torch.tensor([value for _, value in places], dtype=torch.float64)
    layers = torch.tensor([layer for layer, _ in places])
    if largest > 0:
        expected = {place for place, (_, value) in enumerate(places) if value >= share * largest}
        assert set(taken(nd.Threshold(share), places)) == expected
    of_four = nd.Threshold(share).choose(strength, layers, whole=-4.0)
    assert set(of_four.tolist()) == {place for place, (_, value) in enumerate(places) if value >= share * 4}


@given(PLACES, st.floats(0.01, 1))
def test_mass_is_the_fewest_that_hold_the_share(places, share):
    allowed = [strength for _, strength in places if strength > -torch.inf]
    chosen = [places[place][1] for place in taken(nd.Mass(share), places)]
    if not allowed:
        assert chosen == []
        return
    assert sum(chosen) >= share * sum(allowed) * (1 - 1e-9)
    assert sum(chosen[:-1]) < share * sum(allowed) or len(chosen) == 1


def test_ties_go_to_the_smaller_place():
    assert strongest(torch.tensor([1.0, 3.0, -torch.inf, 3.0]), 9).tolist() == [1, 3, 0]
    assert taken(nd.PerLayer(1), [(0, 2.0), (0, 2.0), (1, 2.0), (1, 5.0)]) == [3, 0]


@pytest.mark.parametrize("rule", SELECTION_RULES, ids=lambda rule: rule.name)
def test_every_rule_is_typed_and_shown_in_one_way(rule):
    value = default_value(rule) or RISING[rule.name][1]
    assert isinstance(value, value_type(rule))
    select = rule(value)
    assert parse_select(show_select(select)) == select
    assert parse_select(f" {rule.name}:{value} ") == select
    assert rule.meaning
    with pytest.raises(OptionError, match=r"Wanted: (more than 0|at least 1)"):
        rule(value_type(rule)(-1))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("fractoin:0.1", UnknownNameError, "no rule of selection 'fractoin'. Did you mean fraction"),
        ("count", OptionError, "a whole number after count:"),
        ("count:1.5", OptionError, "a whole number after count:"),
        ("mass:much", OptionError, "a number after mass:"),
        ("fraction:nan", OptionError, "The fraction is nan"),
        ("threshold:inf", OptionError, "The threshold is inf"),
        ("per-layer:0", OptionError, "in each layer is 0"),
        ("", UnknownNameError, "no rule of selection ''"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(text, error, words):
    with pytest.raises(error, match=words):
        parse_select(text)


def test_a_name_alone_takes_the_rules_own_value():
    assert parse_select("fraction") == nd.Fraction(0.001)


# ------------------------------------------------------------------------------------------- circuits by every rule


def scores(*layers):
    return Scores({Site(layer): torch.tensor(values) for layer, values in enumerate(layers)})


@pytest.mark.parametrize(
    ("select", "sign", "expected"),
    [
        (nd.Threshold(0.5), "both", [(1, 0), (0, 1), (0, 0)]),
        (nd.Threshold(0.5), "positive", [(0, 0)]),
        (nd.PerLayer(1), "both", [(1, 0), (0, 1)]),
        (nd.PerLayer(1), "positive", [(0, 0), (1, 1)]),
        (nd.Mass(0.5), "both", [(1, 0), (0, 1)]),
        (nd.Mass(1.0), "negative", [(1, 0), (0, 1)]),
    ],
)
def test_circuits(select, sign, expected):
    rows = choose(scores([2.0, -3.0, 0.0], [-4.0, 0.5]), Rule(select, sign))
    assert [(row.neuron.layer, row.neuron.index) for row in rows] == expected


def test_what_is_left_out_does_not_set_the_threshold_or_the_mass():
    found = scores([9.0], [2.0, 1.0])
    assert len(choose(found, Rule(nd.Threshold(0.5), skip_layers=(0,)))) == 2
    assert len(choose(found, Rule(nd.Threshold(0.5)))) == 1
    assert len(choose(found, Rule(nd.Mass(0.6), skip_layers=(0,)))) == 1


def test_a_threshold_that_nothing_meets_is_refused():
    with pytest.raises(OptionError, match=r"threshold:1\.5 takes no neuron"):
        choose(scores([2.0, -3.0]), Rule(nd.Threshold(1.5)))


# ------------------------------------------------------------------------------------------- a rule of one's own


@dataclass(frozen=True)
class EveryOther(Select):
    """Every so manyth of the strongest: made up, to see that a rule in the list is a rule everywhere."""

    name: ClassVar[str] = "every-other"
    meaning: ClassVar[str] = "every so manyth"
    value: int = 2

    def choose(self, strength, layers, *, whole=None):
        return strongest(strength, strength.numel())[:: self.value]


def test_a_rule_in_the_list_is_typed_and_chooses(monkeypatch):
    monkeypatch.setattr("neurodial.circuit.selection.SELECTION_RULES", [*SELECTION_RULES, EveryOther])
    select = parse_select("every-other:3")
    assert select == EveryOther(3)
    assert parse_select("every-other") == EveryOther()
    rows = choose(scores([5.0, 4.0, 3.0, 2.0]), Rule(select))
    assert [row.neuron.index for row in rows] == [0, 3]
    with pytest.raises(UnknownNameError, match="every-other"):
        parse_select("every")
