"""How much two circuits share."""

import dataclasses

import pytest
from hypothesis import given
from tests.circuit.strategies import ALL_NEURONS, MODEL, circuits

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.compare import compare
from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitError


def circuit(*places: tuple[int, int, float]) -> Circuit:
    return Circuit.of([Row(Neuron(layer, None, index), score, 1.0) for layer, index, score in places])


def test_an_example_by_hand():
    first = circuit((0, 1, 1.0), (0, 2, 1.0), (2, 0, -1.0))
    second = circuit((0, 2, -5.0), (2, 0, -0.1))
    result = compare(first, second)
    assert (result.first, result.second, result.shared) == (3, 2, 2)
    assert result.jaccard == pytest.approx(2 / 3)
    assert result.same_sign == 0.5
    assert result.expected is None, "circuits by hand do not say how many neurons there are"
    assert result.by_layer == ((0, 2, 1, 1), (2, 1, 1, 1))


@given(a=circuits(), b=circuits())
def test_comparing_is_symmetric(a, b):
    one, other = compare(a, b), compare(b, a)
    assert (one.shared, one.jaccard, one.expected, one.same_sign) == (
        other.shared,
        other.jaccard,
        other.expected,
        other.same_sign,
    )
    assert one.by_layer == tuple((layer, y, x, both) for layer, x, y, both in other.by_layer)


@given(a=circuits(), b=circuits())
def test_layers_add_up_to_the_whole(a, b):
    result = compare(a, b)
    sums = [sum(column) for column in list(zip(*result.by_layer, strict=True))[1:]] or [0, 0, 0]
    assert sums == [result.first, result.second, result.shared]
    assert 0 <= result.jaccard <= 1


@given(a=circuits(least=1))
def test_a_circuit_shares_all_with_itself_and_nothing_with_its_complement(a):
    assert compare(a, a).jaccard == 1
    rest = Circuit.of([Row(neuron, 1.0, 1.0) for neuron in ALL_NEURONS if neuron not in a])
    assert (compare(a, rest).shared, compare(a, rest).jaccard, compare(a, rest).same_sign) == (0, 0, None)


def test_nothing_shares_nothing():
    result = compare(Circuit.of([]), Circuit.of([]))
    assert (result.shared, result.jaccard, result.by_layer) == (0, 0, ())


def test_chance_is_the_mean_over_all_circuits_of_the_size():
    """A circuit of 4 and the whole model share 4; of half the model, half as many."""
    whole = Circuit.of([Row(neuron, 1.0, 1.0) for neuron in ALL_NEURONS], origin=Origin(model=MODEL))
    four = Circuit.of(whole.rows[:4])
    assert compare(four, whole).expected == 4
    assert compare(four, whole.in_layers([0, 1])).expected == 4 * 8 / 16


def test_a_score_of_nought_has_no_sign_to_share():
    assert compare(circuit((0, 1, 0.0)), circuit((0, 1, 0.0))).same_sign == 0


def test_circuits_of_models_of_other_shape_are_refused():
    other = Origin(model=dataclasses.replace(MODEL, widths=(2, 2)))
    with pytest.raises(CircuitError, match="different shape"):
        compare(Circuit.of([], origin=Origin(model=MODEL)), Circuit.of([], origin=other))
