"""Statistics against scipy, closed forms, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from neurodial.errors import OptionError
from neurodial.evaluation.intervals import Estimate, bootstrap, kappa, mcnemar, paired_means, paired_rates, rate, wilson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_wilson_is_scipys(counts, level):
    count, n = counts
    expected = binomtest(count, n).proportion_ci(level, method="wilson")
    found = wilson(count, n, level=level)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_wilson_of_nothing_knows_nothing():
    found = wilson(0, 0)
    assert math.isnan(found.value)
    assert (found.low, found.high, found.n) == (0.0, 1.0, 0)


@pytest.mark.parametrize(("count", "n"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(count, n):
    with pytest.raises(OptionError):
        wilson(count, n)


def test_a_narrower_level_gives_a_narrower_interval():
    wide, narrow = wilson(5, 20, level=0.99), wilson(5, 20, level=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0])
def test_a_level_is_a_share(level):
    with pytest.raises(OptionError):
        wilson(1, 2, level=level)


def test_bootstrap_agrees_with_the_normal_interval_on_many_values():
    values = np.random.default_rng(1).normal(3.0, 2.0, 4000)
    found = bootstrap(list(values), resamples=4000)
    error = values.std(ddof=1) / math.sqrt(len(values))
    # Resampling noise of an end point with 4,000 resamples is about 0.03 standard errors; 0.15 is five times that.
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_bootstrap_is_seeded_and_the_seed_matters():
    values = [math.sin(place) for place in range(30)]
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)


def test_bootstrap_of_nothing_is_not_a_number():
    assert math.isnan(bootstrap([]).value)
    for resamples in (0, 1):
        with pytest.raises(OptionError):
            bootstrap([1.0, 2.0], resamples=resamples)


def test_bootstrap_by_hand():
    """Means of values drawn with replacement, and their percentiles; one value can only draw itself."""
    values, generator = np.sin(np.arange(7.0)), np.random.default_rng(3)
    means = [values[generator.integers(0, 7, 7)].mean() for _ in range(250)]
    found = bootstrap(list(values), level=0.9, resamples=250, seed=3)
    # A mean of 7 values of at most 1 is rounded by at most 7 epsilon, whatever the order of the sum.
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=7 * 2.3e-16)
    assert bootstrap([1.5]) == Estimate(1.5, 1.5, 1.5, 1, "bootstrap")


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_sign_test(falls, rises):
    expected = 1.0 if falls + rises == 0 else binomtest(falls, falls + rises, 0.5).pvalue
    assert mcnemar(falls, rises) == pytest.approx(expected, abs=1e-12)


def table(both, falls, rises, neither):
    first = [True] * (both + falls) + [False] * (rises + neither)
    second = [True] * both + [False] * falls + [True] * rises + [False] * neither
    return first, second


@pytest.mark.parametrize("cells", [(12, 8, 18, 12), (4, 16, 6, 24)])
def test_without_correlation_the_paired_interval_is_square_and_add(cells):
    """Cells whose cross product is zero: the correlation is zero, and Newcombe's unpaired formula must come out."""
    both, falls, rises, neither = cells
    n = sum(cells)
    assert both * neither == falls * rises
    first, second = both + falls, both + rises
    ends = [binomtest(count, n).proportion_ci(0.95, method="wilson") for count in (first, second)]
    step = (second - first) / n
    low = step - math.hypot(second / n - ends[1].low, ends[0].high - first / n)
    high = step + math.hypot(ends[1].high - second / n, first / n - ends[0].low)
    found = paired_rates(*table(*cells)).estimate
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


@given(st.tuples(*[st.integers(0, 25)] * 4).filter(lambda cells: sum(cells) > 0))
def test_paired_interval_holds_the_difference_and_turns_with_the_order(cells):
    first, second = table(*cells)
    forward, backward = paired_rates(first, second), paired_rates(second, first)
    assert forward.estimate.low <= forward.estimate.value <= forward.estimate.high
    assert forward.estimate.low == pytest.approx(-backward.estimate.high, abs=1e-12)
    assert (forward.rises, forward.falls) == (backward.falls, backward.rises)
    assert forward.p_value == backward.p_value


def test_pairing_matters():
    """The same two rates: answers that move together are a surer difference than answers that do not."""
    together = paired_rates(*table(40, 20, 0, 40)).estimate
    apart = paired_rates(*table(20, 40, 20, 20)).estimate
    assert together.value == apart.value == pytest.approx(-0.2)
    assert together.high - together.low < apart.high - apart.low


def test_paired_interval_covers_the_truth():
    """1,000 simulated studies of 60 prompts: the 95 % interval holds the true difference about 95 % of the time."""
    generator = np.random.default_rng(3)
    truth, held = -0.15, 0
    for _ in range(1000):
        cells = generator.multinomial(60, [0.5, 0.25, 0.10, 0.15])
        estimate = paired_rates(*table(*map(int, cells))).estimate
        held += estimate.low <= truth <= estimate.high
    assert 0.92 <= held / 1000 <= 0.98


def test_paired_means_count_what_rose_and_fell():
    found = paired_means([1.0, 2.0, 3.0], [2.0, 2.0, 1.0])
    assert (found.rises, found.falls, found.p_value) == (1, 1, None)
    assert found.estimate.value == pytest.approx(-1 / 3)


def test_unequal_pairs_are_refused():
    for function in (paired_rates, kappa):
        with pytest.raises(OptionError):
            function([True], [True, False])
    with pytest.raises(OptionError):
        paired_means([1.0], [1.0, 0.0])


def test_kappa_in_closed_form():
    # Cohen 1960: (observed - chance) / (1 - chance); 20 and 15 of 50 agree, chance 0.5.
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert kappa(first, second) == pytest.approx((0.7 - 0.5) / 0.5)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=40))
def test_kappa_is_symmetric_and_at_most_one(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    there, back = kappa(first, second), kappa(second, first)
    assert math.isnan(there) == math.isnan(back)
    assert math.isnan(there) or (there == pytest.approx(back) and there <= 1)


def test_one_sided_verdicts_have_no_kappa():
    assert math.isnan(kappa(["a", "a"], ["a", "a"]))
    with pytest.raises(OptionError):
        kappa([], [])


def test_rate_counts():
    assert rate([True, False]).value == 0.5
    assert str(wilson(82, 100)) == "0.820 [0.733, 0.883] (n = 100)"
