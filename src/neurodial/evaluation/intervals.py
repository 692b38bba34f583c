"""Intervals, paired differences and agreement: no number leaves this package without its n and its interval.

1. A rate gets a Wilson score interval (Wilson 1927), which stays inside [0, 1] and is sound at 0 and at n.
2. A mean gets a percentile bootstrap interval (Efron 1979), seeded.
3. Two rates on the same prompts get McNemar's exact test and Newcombe's square-and-add interval for paired
   proportions (Newcombe 1998, method 10); two means on the same prompts a bootstrap over the pairs.
4. Two detectors on the same answers get Cohen's kappa (Cohen 1960).

scipy computes the Wilson and the bootstrap interval and the exact test; it has neither Newcombe's interval nor kappa.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from neurodial.errors import OptionError

LEVEL = 0.95
"""Coverage of every interval, unless another is asked for."""
RESAMPLES = 2000
"""Bootstrap resamples."""
_BATCH = 100  # resamples held at once


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and the number of observations behind it.

    Attributes:
        value: the estimate; NaN where there was nothing to observe.
        low: lower end of the interval.
        high: upper end.
        n: observations.
        method: how the interval was made.

    Example:
        >>> print(wilson(82, 100))
        0.820 [0.733, 0.883] (n = 100)
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] (n = {self.n})"


@dataclass(frozen=True)
class Difference:
    """A paired difference, second minus first, on the same prompts.

    Attributes:
        estimate: the difference with its interval.
        p_value: two-sided; of McNemar's exact test for rates, None for means.
        rises: prompts where only the second is true (or larger).
        falls: prompts where only the first is.
    """

    estimate: Estimate
    p_value: float | None
    rises: int
    falls: int

    def reversed(self) -> Difference:
        """First minus second.

        Example:
            >>> paired_rates([True, True], [False, True]).reversed().estimate.value
            0.5
        """
        old = self.estimate
        turned = Estimate(-old.value, -old.high, -old.low, old.n, old.method)
        return Difference(turned, self.p_value, self.falls, self.rises)

    @property
    def is_clear(self) -> bool:
        """Beyond chance: the test's p below 0.05 or, where there is no test, an interval that leaves out 0."""
        if self.p_value is not None:
            return self.p_value < 1 - LEVEL
        return self.estimate.low > 0 or self.estimate.high < 0


def wilson(count: int, n: int, *, level: float = LEVEL) -> Estimate:
    """A rate with its Wilson score interval.

    Raises:
        OptionError: the count is not between 0 and n, or the level not between 0 and 1.

    Example:
        >>> estimate = wilson(0, 10)
        >>> estimate.low, round(estimate.high, 4)
        (0.0, 0.2775)
    """
    from scipy.stats import binomtest

    _check_counts(count, n)
    _check_level(level)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0, "Wilson")
    interval = binomtest(count, n).proportion_ci(level, method="wilson")
    return Estimate(count / n, float(interval.low), float(interval.high), n, "Wilson")


def rate(outcomes: Sequence[bool], *, level: float = LEVEL) -> Estimate:
    """The share of true outcomes, with its Wilson interval.

    Example:
        >>> rate([True, False, True, True]).value
        0.75
    """
    return wilson(sum(outcomes), len(outcomes), level=level)


def bootstrap(values: Sequence[float], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """A mean with its percentile bootstrap interval.

    Raises:
        OptionError: fewer than two resamples, or a level outside 0 to 1.

    Example:
        >>> bootstrap([2.0, 2.0, 2.0]).high
        2.0
    """
    from scipy.stats import bootstrap as resample

    if resamples < 2:
        raise OptionError(f"The number of resamples is {resamples}.", wanted="at least 2")
    _check_level(level)
    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:  # nothing to draw from but itself
        value = float(data[0]) if data.size else math.nan
        return Estimate(value, value, value, int(data.size), "bootstrap")
    interval = resample(
        (data,),
        np.mean,
        n_resamples=resamples,
        batch=_BATCH,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(float(data.mean()), float(interval.low), float(interval.high), int(data.size), "bootstrap")


def paired_rates(first: Sequence[bool], second: Sequence[bool], *, level: float = LEVEL) -> Difference:
    """The change of a rate on the same prompts: McNemar's exact test, Newcombe's interval for paired rates.

    Raises:
        OptionError: the two are of different length.

    Example:
        >>> change = paired_rates([True] * 8 + [False] * 2, [False] * 10)
        >>> change.estimate.value, change.p_value
        (-0.8, 0.0078125)
    """
    _check_pairs(first, second)
    n = len(first)
    both = sum(a and b for a, b in zip(first, second, strict=True))
    falls, rises = sum(first) - both, sum(second) - both
    if n == 0:
        return Difference(Estimate(math.nan, -1.0, 1.0, 0, "Newcombe paired"), None, 0, 0)
    low, high = _newcombe(both, falls, rises, n, level)
    estimate = Estimate((rises - falls) / n, low, high, n, "Newcombe paired")
    return Difference(estimate, mcnemar(falls, rises), rises, falls)


def paired_means(first: Sequence[float], second: Sequence[float], *, level: float = LEVEL, seed: int = 0) -> Difference:
    """The change of a mean on the same prompts, with a bootstrap interval over the pairs.

    Raises:
        OptionError: the two are of different length.

    Example:
        >>> paired_means([1.0, 2.0], [2.0, 3.0]).estimate.value
        1.0
    """
    _check_pairs(first, second)
    steps = [b - a for a, b in zip(first, second, strict=True)]
    estimate = bootstrap(steps, level=level, seed=seed)
    return Difference(estimate, None, sum(step > 0 for step in steps), sum(step < 0 for step in steps))


def mcnemar(falls: int, rises: int) -> float:
    """Two-sided p-value of McNemar's exact test: are the changes one way as likely as the other way?

    Example:
        >>> mcnemar(5, 5)
        1.0
    """
    from scipy.stats import binomtest

    _check_counts(falls, falls + rises)
    changed = falls + rises
    return 1.0 if changed == 0 else float(binomtest(min(falls, rises), changed, 0.5).pvalue)


def unpaired(first: Estimate, second: Estimate) -> Difference:
    """Second minus first from their own intervals, for numbers whose observations are not at hand (Newcombe 1998, 10).

    Wider than a paired interval where the same prompts answer alike.

    Example:
        >>> change = unpaired(wilson(80, 100), wilson(40, 100)).estimate
        >>> round(change.value, 2), round(change.low, 2), round(change.high, 2)
        (-0.4, -0.51, -0.27)
    """
    moved = second.value - first.value
    low = moved - math.hypot(second.value - second.low, first.high - first.value)
    high = moved + math.hypot(second.high - second.value, first.value - first.low)
    count = min(first.n, second.n)
    return Difference(Estimate(moved, low, high, count, "Newcombe, from both intervals"), None, 0, 0)


def kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Cohen's kappa: agreement beyond chance; 1 is perfect, 0 chance. NaN where both only ever say one thing.

    Raises:
        OptionError: the two are of different length, or empty.

    Example:
        >>> kappa([1, 1, 0, 0], [1, 1, 0, 0]), kappa([1, 1, 0, 0], [1, 0, 1, 0])
        (1.0, 0.0)
    """
    _check_pairs(first, second)
    if not first:
        raise OptionError("There are no verdicts to compare.", wanted="at least one answer")
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    values = set(first) | set(second)
    chance = sum((list(first).count(v) / n) * (list(second).count(v) / n) for v in values)
    return math.nan if chance == 1 else (observed - chance) / (1 - chance)


def _newcombe(both: int, falls: int, rises: int, n: int, level: float) -> tuple[float, float]:
    """Square-and-add limits, with the correlation of the two rates taken from the fourfold table."""
    neither = n - both - falls - rises
    first, second = wilson(both + falls, n, level=level), wilson(both + rises, n, level=level)
    margins = (both + falls) * (rises + neither) * (both + rises) * (falls + neither)
    excess = both * neither - falls * rises
    cross = max(excess - n / 2, 0.0) if excess > 0 else float(excess)
    phi = cross / math.sqrt(margins) if margins else 0.0

    def reach(up: float, down: float) -> float:
        return math.sqrt(max(0.0, up * up - 2 * phi * up * down + down * down))

    step = second.value - first.value
    low = step - reach(second.value - second.low, first.high - first.value)
    high = step + reach(second.high - second.value, first.value - first.low)
    return max(-1.0, low), min(1.0, high)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise OptionError(f"The level is {level}.", wanted="more than 0 and less than 1, such as 0.95")


def _check_counts(count: int, n: int) -> None:
    if not 0 <= count <= n:
        raise OptionError(f"The count is {count} of {n}.", wanted="a count from 0 to n")


def _check_pairs(first: Sequence[object], second: Sequence[object]) -> None:
    if len(first) != len(second):
        raise OptionError(
            f"{len(first)} outcomes came to be compared with {len(second)}.", wanted="one for each prompt"
        )
