"""Circuits as values: their order, and the algebra of sets of neurons."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.circuit.strategies import MODEL, circuits, rows

from neurodial.circuit.circuit import Circuit, Origin, Row, Stability
from neurodial.circuit.site import Neuron, Site
from neurodial.errors import CircuitError

A, B, C = (Row(Neuron(layer, None, 1), score, 1.0) for layer, score in [(0, 1.0), (1, -3.0), (2, 2.0)])


# ------------------------------------------------------------------------------------------- what one is


@given(found=rows(dense=False), data=st.data())
def test_a_circuit_does_not_depend_on_the_order_of_its_rows(found, data):
    assert Circuit.of(data.draw(st.permutations(found))) == Circuit.of(found)


@given(found=rows(dense=False))
def test_a_circuit_holds_its_rows_in_the_order_of_layer_expert_index(found):
    circuit = Circuit.of(found)
    keys = [
        (row.neuron.layer, -1 if row.neuron.expert is None else row.neuron.expert, row.neuron.index) for row in circuit
    ]
    assert keys == sorted(keys)
    assert set(circuit) == set(found)
    assert len(circuit) == len(found)
    assert all(row.neuron in circuit for row in found)
    assert circuit.neurons == {row.neuron for row in found}


@given(found=rows(dense=False))
def test_sites_divide_a_circuit(found):
    sites = Circuit.of(found).sites
    assert [row for part in sites.values() for row in part] == list(Circuit.of(found))
    assert all(row.neuron.site == site for site, part in sites.items() for row in part)
    assert list(sites) == sorted(sites)


def test_a_dense_mlp_comes_before_the_experts_of_its_layer():
    sites = [Site(1, routed=True), Site(1), Site(0, routed=True)]
    assert sorted(sites) == [Site(0, routed=True), Site(1), Site(1, routed=True)]
    neurons = [Neuron(1, 0, 1), Neuron(1, None, 9), Neuron(0, 3, 0), Neuron(1, 0, 0)]
    ordered = [Neuron(0, 3, 0), Neuron(1, None, 9), Neuron(1, 0, 0), Neuron(1, 0, 1)]
    assert [row.neuron for row in Circuit.of(Row(neuron, 1.0, 1.0) for neuron in neurons)] == ordered


def test_a_neuron_of_an_expert_is_another_neuron():
    dense, expert = Neuron(0, None, 1), Neuron(0, 0, 1)
    assert dense not in Circuit.of([Row(expert, 1.0, 1.0)])
    assert len(Circuit.of([Row(expert, 1.0, 1.0), Row(dense, 1.0, 1.0)])) == 2


def test_a_neuron_that_stands_twice_is_refused():
    with pytest.raises(CircuitError, match="is listed twice"):
        Circuit.of([A, A._replace(score=9.0)])


def test_rows_out_of_order_are_refused():
    with pytest.raises(CircuitError, match=r"not in order.*Circuit\.of"):
        Circuit((B, A))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["score", "dose"])
def test_a_score_or_dose_that_is_not_finite_is_refused(field, value):
    with pytest.raises(CircuitError, match=rf"{field} {value}.*finite"):
        Circuit.of([A._replace(**{field: value})])


def test_an_empty_circuit_is_one():
    assert len(Circuit.of([])) == 0
    assert Circuit.of([A]) & Circuit.of([B]) == Circuit.of([])


def test_a_circuit_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Circuit.of([A]).name = "other"


def test_stability_is_the_mean_over_folds():
    assert Stability((0.5, 1.0), (1.0,)).mean == 0.75


# ------------------------------------------------------------------------------------------- algebra


@given(a=circuits(), b=circuits())
def test_operations_are_those_of_sets(a, b):
    assert (a | b).neurons == a.neurons | b.neurons
    assert (a & b).neurons == a.neurons & b.neurons
    assert (a - b).neurons == a.neurons - b.neurons


@given(a=circuits())
def test_a_circuit_with_itself(a):
    assert a | a == a & a == a
    assert len(a - a) == 0


@given(a=circuits())
def test_nothing_is_neutral(a):
    nothing = a - a
    assert a | nothing == a - nothing == a
    assert len(a & nothing) == 0


@given(a=circuits(), b=circuits(), c=circuits())
def test_operations_associate(a, b, c):
    assert (a | b) | c == a | (b | c)
    assert (a & b) & c == a & (b & c)
    assert (a - b) - c == a - (b | c)


@given(a=circuits(), b=circuits(), c=circuits())
def test_operations_distribute(a, b, c):
    assert a & (b | c) == (a & b) | (a & c)
    assert a - (b & c) == (a - b) | (a - c)


@given(a=circuits(), b=circuits())
def test_a_circuit_is_the_union_of_what_it_shares_and_what_it_does_not(a, b):
    assert (a & b) | (a - b) == a
    assert len((a & b) & (a - b)) == 0


@given(a=circuits(), b=circuits())
def test_where_both_have_a_neuron_the_left_one_counts(a, b):
    kept = {row.neuron: row for row in a}
    for combined in (a | b, a & b, a - b):
        assert all(row == kept[row.neuron] for row in combined if row.neuron in kept)


def test_the_left_names_the_result():
    left = Circuit.of([A, B], name="left", direction="induce", origin=Origin(seed=1))
    right = Circuit.of([B, C], name="right", origin=Origin(seed=2))
    for combined in (left | right, left & right, left - right, left.top(1), left.in_layers([0])):
        assert (combined.name, combined.direction, combined.origin.seed) == ("left", "induce", 1)


def test_stability_is_of_the_whole_circuit_and_goes_with_any_change():
    whole = Circuit.of([A, B], stability=Stability((1.0,), (1.0, 0.5)))
    for changed in (whole | whole, whole & whole, whole - whole, whole.top(1), whole.in_layers([0])):
        assert changed.stability is None
    assert whole.with_doses(0.5).stability == whole.stability, "the same neurons, chosen as before"


def test_circuits_of_models_of_other_shape_do_not_combine():
    other = dataclasses.replace(MODEL, widths=(5, 3))
    left, right = (Circuit.of([A], origin=Origin(model=model)) for model in (MODEL, other))
    for combine in (lambda: left | right, lambda: left & right, lambda: left - right):
        with pytest.raises(CircuitError, match="different shape"):
            combine()
    by_hand = Circuit.of([A])
    assert left | by_hand == left
    assert len(by_hand & right) == 1


# ------------------------------------------------------------------------------------------- parts


@given(a=circuits(), count=st.integers(0, 20))
def test_the_top_is_nested_and_strongest(a, count):
    top = a.top(count)
    assert len(top) == min(count, len(a))
    assert top.neurons <= a.top(count + 1).neurons
    weakest = min((abs(row.score) for row in top), default=float("inf"))
    assert all(abs(row.score) <= weakest for row in a - top)


def test_ties_go_to_the_first_in_order():
    tied = Circuit.of([C._replace(score=-1.0), B._replace(score=1.0), A._replace(score=-1.0)])
    assert [row.neuron.layer for row in tied.top(2)] == [0, 1]


def test_a_negative_count_is_refused():
    with pytest.raises(CircuitError, match=r"count is -1.*0 or more"):
        Circuit.of([A]).top(-1)


@given(a=circuits())
def test_layers_divide_a_circuit(a):
    parts = [a.in_layers([layer]) for layer in range(3)]
    assert [row for part in parts for row in part] == list(a)
    assert a.in_layers(range(3)) == a
    assert len(a.in_layers([])) == len(a.in_layers([7])) == 0


@given(a=circuits(), dose=st.floats(-10, 10))
def test_doses_change_and_nothing_else(a, dose):
    changed = a.with_doses(dose)
    assert all(row.dose == dose for row in changed)
    assert [row[:2] for row in changed] == [row[:2] for row in a]
