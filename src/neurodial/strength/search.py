"""The search for a strength on a path, by measuring damage and margin: one search for every method.

1. Measure at two strengths below a guess, at one that a look at fewer prompts found and a little below it, or where
   nothing is known at some spread evenly in the logarithm.
2. Where the point looked for lies beyond all of them, measure where the divergence so far foretells the budget (it
   grows as a power of the strength, about its square), or where nothing foretells it towards that end of the path.
3. Narrow in, between the last strength that is allowed and the first that is not (a budget: interpolated in the
   logarithms of strength and divergence), or between the last that falls short and the first that reaches the target
   (interpolated in the margin). A second point halfway to the safe side goes with each: interpolation alone may land
   on the wrong side repeatedly. Where the margin got worse on the way, measure on either side of its best instead.
4. Of everything measured, take the best margin within the limits; or the least damage that reaches the target.
5. Where broken answers are limited, let the model answer at that strength. If they are too broken, let it answer
   at every other strength that the remaining limits allow, and narrow in again.

Margins may get worse again when a model is pushed far, so only measured strengths are results, no interpolated ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from neurodial.strength.limits import AnswersBroken, Limits, Trial

_CLOSE = 0.9  # share of a budget that counts as spent
_ASIDE = 0.05  # share of the way by which interpolated points move to the safe side
_NEAR = 1.1  # factor between strengths below which no point between is measured
_AROUND = (0.8, 1.0)  # of a strength that is foretold, where it is measured
_STEP = 2.5  # ratio of the strengths below a guess
_BELOW = 0.85  # of a strength that is nearly known, where it is measured, too

Measure = Callable[[Sequence[float]], list[Trial]]
"""Measures several strengths at once."""

Answer = Callable[[Sequence[float]], list[AnswersBroken]]
"""Lets the model answer at several strengths, and says how broken its answers are at each."""


def search(
    low: float,
    high: float,
    measure: Measure,
    limits: Limits,
    *,
    answer: Answer | None = None,
    guess: float | None = None,
    near: float | None = None,
    width: int = 6,
    rounds: int = 4,
) -> tuple[Trial, tuple[Trial, ...]]:
    """The best trial for the limits, and all trials in the order of their strength.

    Args:
        low: the least strength.
        high: the greatest strength.
        measure: measures several strengths at once.
        limits: the limits and the target.
        answer: how broken the answers are; needed where the limits include it.
        guess: a likely strength; two strengths below it are measured first.
        near: a strength that is nearly right; it and one a little below it are measured first.
        width: how many strengths are measured first without a guess.
        rounds: of measuring, at most, and two more after a guess, which begins with fewer; as many again where answers
            are too broken.

    Raises:
        BudgetError: a limit is exceeded even by the smallest strength, or a target is out of reach.

    Example:
        >>> def measure(strengths):
        ...     return [Trial(s, None, s * s, 0.0, 1 - s) for s in strengths]
        >>> best, trials = search(0.01, 1.0, measure, Limits(budget=0.25, target=None))
        >>> 0.45 < best.strength <= 0.5
        True
    """

    def narrowed(trials: list[Trial], measure: Measure) -> list[Trial]:
        for _ in range(rounds - 1 if near is not None or guess is None else rounds + 1):
            strengths = _next(trials, limits, low, high)
            if not strengths:
                break
            trials = sorted([*trials, *measure(strengths)], key=lambda trial: trial.strength)
        return trials

    def answered(trials: Sequence[Trial], answer: Answer) -> list[Trial]:
        allowed = [trial for trial in trials if limits.allows(trial)]
        answers = answer([trial.strength for trial in allowed]) if allowed else []
        broken = dict(zip((trial.strength for trial in allowed), answers, strict=True))
        return [
            replace(trial, **broken[trial.strength]._asdict()) if trial.strength in broken else trial
            for trial in trials
        ]

    if near is not None:
        first = sorted({max(_BELOW * near, low), near})
    else:
        first = _spread(low, high, width) if guess is None else _below(guess, low, high)
    trials = narrowed(measure(first), measure)
    if answer is None or not limits.need_answers:
        return limits.best(trials), tuple(trials)
    best = limits.best(trials)
    [seen] = answered([best], answer)
    trials = [seen if trial is best else trial for trial in trials]
    if not limits.allows(seen):
        trials = narrowed(answered(trials, answer), lambda strengths: answered(measure(strengths), answer))
    return limits.best(trials), tuple(trials)


def crossing(falls_short: Callable[[float], bool], low: float, high: float, *, steps: int = 24) -> float:
    """The least strength at which a prediction does not fall short, by bisection in the logarithm.

    Example:
        >>> round(crossing(lambda strength: strength**2 < 0.25, 0.001, 3.0), 3)
        0.5
    """
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if falls_short(middle) else (low, middle)
    return math.sqrt(low * high)


def _below(guess: float, low: float, high: float) -> list[float]:
    """Two strengths below a guess, within the ends: neurons together cost more than the sum of what each costs."""
    inside = [min(max(guess * _STEP**step, low), high) for step in (-2, -1)]
    return sorted(set(inside))


def _next(trials: Sequence[Trial], limits: Limits, low: float, high: float) -> list[float]:
    """Where to measure next; nothing where the point looked for is an end, or is found closely enough."""
    turned = _around_the_turn(trials, limits, low)
    if turned:
        return turned
    to_target = limits.target is not None and not _is_beyond(trials, limits)
    if to_target:
        first = next((n for n, trial in enumerate(trials) if limits.meets_target(trial)), len(trials))
    else:  # reference answers may seem less likely by rounding alone where strengths are tiny
        first = 1 + max((n for n, trial in enumerate(trials) if limits.allows(trial)), default=-1)
    if first == len(trials):
        return _beyond(trials[-2:], limits, high)
    if first == 0:
        return _beyond(trials[1::-1], limits, low)
    before, after = trials[first - 1], trials[first]
    if to_target:
        share = limits.distance(before) / (limits.distance(before) - limits.distance(after))
        shares = (share + _ASIDE * (1 - share), (share + 1) / 2)
    elif _is_close(before, after, limits):
        return []
    elif limits.budget is None or after.divergence <= limits.budget:  # another limit, which can't be interpolated
        shares = (1 / 3, 2 / 3)
    else:
        lowest = max(before.divergence, 1e-12)
        share = math.log(limits.budget / lowest) / math.log(after.divergence / lowest)
        shares = (share / 2, (1 - _ASIDE) * share)
    ends = math.log(before.strength), math.log(after.strength)
    points = [math.exp(ends[0] + (ends[1] - ends[0]) * share) for share in shares]
    return [point for point in points if before.strength < point < after.strength]


def _is_beyond(trials: Sequence[Trial], limits: Limits) -> bool:
    """Whether an optional target is reached only beyond the limits: then search up to the limits."""
    reaching = [trial for trial in trials if limits.meets_target(trial)]
    return not limits.target_required and bool(reaching) and not any(limits.allows(trial) for trial in reaching)


def _is_close(before: Trial, after: Trial, limits: Limits) -> bool:
    """Whether the limits are nearly reached."""
    spent = limits.budget is not None and before.divergence > _CLOSE * limits.budget
    return spent or (limits.exceeded(after) != "budget" and after.strength < _NEAR * before.strength)


def _around_the_turn(trials: Sequence[Trial], limits: Limits, low: float) -> list[float]:
    """Halfway (in the logarithm) to either side of the best trial, where a greater strength is allowed but worse.

    Nothing where a target is reached: the strength looked for is then a smaller one.
    """
    allowed = [trial for trial in trials if limits.allows(trial)]
    if len(allowed) < 2 or any(limits.meets_target(trial) for trial in trials):
        return []
    place = min(range(len(allowed)), key=lambda n: (limits.distance(allowed[n]), n))
    if place == len(allowed) - 1:
        return []
    best = allowed[place].strength
    before = allowed[place - 1].strength if place else low
    points = [math.sqrt(best * other) for other in (before, allowed[place + 1].strength)]
    return [point for point in points if not math.isclose(point, best)]


def _beyond(nearest: Sequence[Trial], limits: Limits, end: float) -> list[float]:
    """Where to measure beyond the last of the trials, which lies nearest to an end of the path.

    Where only the budget matters: about where the divergence comes to it, as a power of the strength; nothing where
    it is nearly spent. Else towards the end.
    """
    last = nearest[-1]
    others = replace(limits, budget=None)
    if limits.budget is None or limits.target is not None or last.divergence <= 0 or not others.allows(last):
        return _towards(last.strength, end)
    if _CLOSE * limits.budget < last.divergence <= limits.budget or math.isclose(last.strength, end):
        return []
    power = 2.0
    if len(nearest) > 1 and nearest[0].divergence > 0 and nearest[0].divergence != last.divergence:
        grown = math.log(last.divergence / nearest[0].divergence)
        power = min(max(grown / math.log(last.strength / nearest[0].strength), 1.0), 3.0)
    foretold = last.strength * (limits.budget / last.divergence) ** (1 / power)
    bounds = sorted((last.strength, end))
    points = {min(max(foretold * factor, bounds[0]), bounds[1]) for factor in _AROUND}
    return sorted(point for point in points if not math.isclose(point, last.strength))


def _towards(measured: float, end: float) -> list[float]:
    """Halfway (in the logarithm) to an end of the path and the end itself; nothing where the end was measured."""
    return [] if math.isclose(measured, end) else sorted((math.sqrt(measured * end), end))


def _spread(low: float, high: float, count: int) -> list[float]:
    """Numbers from low to high, evenly spread in the logarithm."""
    if high <= low:
        return [low]
    ends = math.log(low), math.log(high)
    return [
        low if n == 0 else high if n == count - 1 else math.exp(ends[0] + (ends[1] - ends[0]) * n / (count - 1))
        for n in range(count)
    ]
