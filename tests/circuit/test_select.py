"""How many neurons a circuit takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurodial.circuit.selection import Count, Fraction
from neurodial.errors import OptionError


@pytest.mark.parametrize("value", [0.0, -0.001, 1.001, 2.0, float("nan"), float("inf")])
def test_a_fraction_of_nothing_or_of_more_than_all_is_refused(value):
    with pytest.raises(OptionError, match="more than 0 and at most 1"):
        Fraction(value)


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_of_nothing_is_refused(value):
    with pytest.raises(OptionError, match="at least 1"):
        Count(value)


def test_the_paper_takes_a_thousandth():
    assert Fraction().count(46_080) == 46
    assert Fraction() == Fraction(0.001)


@given(value=st.floats(0, 1, exclude_min=True), neurons=st.integers(1, 10**6))
def test_a_fraction_takes_its_share_but_at_least_one_and_at_most_all(value, neurons):
    count = Fraction(value).count(neurons)
    assert 1 <= count <= neurons
    assert abs(count - value * neurons) <= max(0.5, 1 - value * neurons) + 1e-9


@given(values=st.tuples(*[st.floats(0, 1, exclude_min=True)] * 2).map(sorted), neurons=st.integers(1, 10**6))
def test_a_larger_fraction_takes_no_fewer(values, neurons):
    smaller, larger = values
    assert Fraction(smaller).count(neurons) <= Fraction(larger).count(neurons)


@given(value=st.integers(1, 10**6), neurons=st.integers(1, 10**6))
def test_a_count_takes_exactly_so_many_or_all(value, neurons):
    assert Count(value).count(neurons) == min(value, neurons)
