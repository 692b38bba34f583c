"""Finding how far to go along a path of doses, by measuring damage and margin.

1. Measure at strengths up to a guess, or spread evenly in the logarithm where there is none.
2. Where all of them lie on one side of what is looked for, go on to that end of the path.
3. Narrow in, between the last strength that is allowed and the first that is not (a budget: interpolated in the
   logarithms of strength and divergence), or between the last that falls short and the first that reaches the target
   (interpolated in the margin). A second point halfway to the safe side goes with each: interpolation alone may land
   on the wrong side again and again. Where the margin turned back on the way, on either side of its best instead.
4. Of everything measured, take the best margin within the budget; or the least damage that reaches the target.

Where the margin knows which answers are aimed for, they must stay as likely as they were: a limit as the budget is.

Margins may turn back when neurons are pushed far, so no result is taken from between measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neurodial.circuit.circuit import Direction, Row
from neurodial.errors import BudgetError


@dataclass(frozen=True)
class Trial:
    """What was measured at one strength.

    Attributes:
        strength: along the path.
        rows: neurons and doses.
        divergence: mean KL in nats per token on neutral answers.
        error: standard error of that.
        margin: mean margin on the development prompts that the direction is about.
        aim: mean log-likelihood per token of the answers aimed for, where the margin knows any.
    """

    strength: float
    rows: tuple[Row, ...]
    divergence: float
    error: float
    margin: float
    aim: float = 0.0


@dataclass(frozen=True)
class Goal:
    """What the doses are to reach.

    Attributes:
        budget: the greatest divergence allowed, or None.
        target: the margin to reach, or None.
        direction: whether the margin is to fall or to rise.
        must: an unmet target is an error; otherwise the best margin is taken.
        least_aim: the answers aimed for must be at least this likely; None for no limit.
    """

    budget: float | None
    target: float | None
    direction: Direction = "remove"
    must: bool = True
    least_aim: float | None = None

    def reaches(self, trial: Trial) -> bool:
        """Whether the margin has come to the target."""
        return self.target is not None and self.lack(trial) <= 0

    def allows(self, trial: Trial) -> bool:
        """Whether the damage is within the budget, and the answers aimed for likely enough."""
        return (self.budget is None or trial.divergence <= self.budget) and self.keeps_aim(trial)

    def keeps_aim(self, trial: Trial) -> bool:
        """Whether the answers aimed for are likely enough."""
        return self.least_aim is None or trial.aim >= self.least_aim

    def lack(self, trial: Trial) -> float:
        """How far the margin is from the target (from 0 where there is none); less is better."""
        return self.lack_at(trial.margin)

    def lack_at(self, margin: float) -> float:
        """The same for a margin, such as a predicted one."""
        sign = 1.0 if self.direction == "remove" else -1.0
        return sign * (margin - (self.target or 0.0))


_CLOSE = 0.9  # of a budget, that counts as spent
_ASIDE = 0.05  # of the way to the safe side, that interpolated points keep
_NEAR = 1.1  # times a strength, that is not worth going on to
_STEP = 2.5  # ratio of the strengths up to a guess

Measure = Callable[[Sequence[float]], list[Trial]]
"""Measures several strengths at once."""


def search(
    low: float,
    high: float,
    measure: Measure,
    goal: Goal,
    *,
    guess: float | None = None,
    width: int = 6,
    rounds: int = 4,
) -> tuple[Trial, tuple[Trial, ...]]:
    """The best trial for the goal, and all trials in the order of their strength.

    Args:
        low: the least strength.
        high: the greatest strength.
        measure: measures several strengths at once.
        goal: what is looked for.
        guess: where it may lie; it and three strengths below it are measured first.
        width: how many strengths are measured first without a guess.
        rounds: of measuring, at most.

    Raises:
        BudgetError: the budget is exceeded even by the smallest doses, or a target is out of reach.

    Example:
        >>> def measure(strengths):
        ...     return [Trial(s, (), s * s, 0.0, 1 - s) for s in strengths]
        >>> best, trials = search(0.01, 1.0, measure, Goal(budget=0.25, target=None))
        >>> 0.45 < best.strength <= 0.5
        True
    """
    trials = measure(_spread(low, high, width) if guess is None else _up_to(guess, low, high))
    for _ in range(rounds - 1):
        wanted = _next(trials, goal, low, high)
        if not wanted:
            break
        trials = sorted([*trials, *measure(wanted)], key=lambda trial: trial.strength)
    return _best(trials, goal), tuple(trials)


def crossing(falls_short: Callable[[float], bool], low: float, high: float, *, steps: int = 24) -> float:
    """The strength from which on a prediction no longer falls short, by bisection in the logarithm.

    Example:
        >>> round(crossing(lambda strength: strength**2 < 0.25, 0.001, 3.0), 3)
        0.5
    """
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if falls_short(middle) else (low, middle)
    return math.sqrt(low * high)


def _up_to(guess: float, low: float, high: float) -> list[float]:
    """Four strengths up to a guess, within the ends: neurons together cost more than the sum of what each costs."""
    inside = [min(max(guess * _STEP**step, low), high) for step in (-3, -2, -1, 0)]
    return sorted(set(inside))


def _next(trials: Sequence[Trial], goal: Goal, low: float, high: float) -> list[float]:
    """Where to measure next; nothing where the point looked for lies at an end or is met closely enough."""
    turned = _around_the_turn(trials, goal, low)
    if turned:
        return turned
    if goal.target is None:  # the answers aimed for may seem less likely by rounding alone where doses are tiny
        first = 1 + max((n for n, trial in enumerate(trials) if goal.allows(trial)), default=-1)
    else:
        first = next((n for n, trial in enumerate(trials) if goal.reaches(trial)), len(trials))
    if first == len(trials):
        return _towards(trials[-1].strength, high)
    if first == 0:
        return _towards(trials[0].strength, low)
    before, after = trials[first - 1], trials[first]
    if goal.target is not None:
        share = goal.lack(before) / (goal.lack(before) - goal.lack(after))
        shares = (share + _ASIDE * (1 - share), (share + 1) / 2)
    elif _is_close(before, after, goal):
        return []
    elif goal.budget is None or after.divergence <= goal.budget:  # then the answers aimed for are too unlikely
        shares = (1 / 3, 2 / 3)
    else:
        lowest = max(before.divergence, 1e-12)
        share = math.log(goal.budget / lowest) / math.log(after.divergence / lowest)
        shares = (share / 2, (1 - _ASIDE) * share)
    ends = math.log(before.strength), math.log(after.strength)
    points = [math.exp(ends[0] + (ends[1] - ends[0]) * part) for part in shares]
    return [point for point in points if before.strength < point < after.strength]


def _is_close(before: Trial, after: Trial, goal: Goal) -> bool:
    """Whether what is allowed is nearly used up, by damage or by the answers aimed for."""
    spent = goal.budget is not None and before.divergence > _CLOSE * goal.budget
    return spent or (not goal.keeps_aim(after) and after.strength < _NEAR * before.strength)


def _around_the_turn(trials: Sequence[Trial], goal: Goal, low: float) -> list[float]:
    """Halfway (in the logarithm) to either side of the best trial, where going further is allowed and made it worse.

    Nothing where a target is reached: what is looked for then lies before it.
    """
    allowed = [trial for trial in trials if goal.allows(trial)]
    if len(allowed) < 2 or any(goal.reaches(trial) for trial in trials):
        return []
    place = min(range(len(allowed)), key=lambda n: (goal.lack(allowed[n]), n))
    if place == len(allowed) - 1:
        return []
    best = allowed[place].strength
    before = allowed[place - 1].strength if place else low
    points = [math.sqrt(best * other) for other in (before, allowed[place + 1].strength)]
    return [point for point in points if not math.isclose(point, best)]


def _towards(measured: float, end: float) -> list[float]:
    """Halfway (in the logarithm) to an end of the path and the end itself; nothing where it was measured."""
    return [] if math.isclose(measured, end) else sorted((math.sqrt(measured * end), end))


def _best(trials: Sequence[Trial], goal: Goal) -> Trial:
    if goal.target is None:
        allowed = [trial for trial in trials if goal.allows(trial)]
        if not allowed:
            raise _too_dear(min(trials, key=lambda trial: trial.divergence), goal)
        return min(allowed, key=lambda trial: (goal.lack(trial), trial.divergence))
    reaching = [trial for trial in trials if goal.reaches(trial)]
    if reaching:
        best = min(reaching, key=lambda trial: trial.divergence)
        if goal.allows(best):
            return best
        if goal.must:
            raise _too_dear(best, goal)
    if goal.must:
        raise _out_of_reach(min(trials, key=goal.lack), goal)
    allowed = [trial for trial in trials if goal.allows(trial)]
    if not allowed:
        raise _too_dear(min(trials, key=lambda trial: trial.divergence), goal)
    return min(allowed, key=lambda trial: (goal.lack(trial), trial.divergence))


def _too_dear(trial: Trial, goal: Goal) -> BudgetError:
    if not goal.keeps_aim(trial):
        what = "Even the smallest doses make" if goal.target is None else f"A margin of {goal.target:g} makes"
        return BudgetError(
            f"{what} the answers aimed for less likely than in the unsteered model: {trial.aim:.3g} nats per token "
            f"against {goal.least_aim:.3g}.",
            wanted="doses that lead to those answers, and not to bad text",
            fix="Ask for less of the margin, take more neurons, or another margin.",
        )
    what = "Even the smallest doses cost" if goal.target is None else f"A margin of {goal.target:g} costs"
    return BudgetError(
        f"{what} {trial.divergence:.3g} nats per token on neutral answers; the budget is {goal.budget:g}.",
        wanted=f"a budget of at least {trial.divergence:.3g}",
        fix="Raise the budget, take fewer neurons, or ask for less of the margin.",
    )


def _out_of_reach(trial: Trial, goal: Goal) -> BudgetError:
    doses = [abs(row.dose) for row in trial.rows]
    furthest = f"{len(doses)} neurons at doses up to {max(doses):.3g}" if doses else "the doses"
    return BudgetError(
        f"The margin on the development prompts comes to {trial.margin:.3g}, not to {goal.target:g}, with {furthest} "
        f"({trial.divergence:.3g} nats per token).",
        wanted="a target that these neurons can reach",
        fix="Take more neurons, a larger x_max, or a nearer target.",
    )


def _spread(low: float, high: float, count: int) -> list[float]:
    """Numbers from low to high, evenly spread in the logarithm."""
    if high <= low:
        return [low]
    ends = math.log(low), math.log(high)
    return [
        low if n == 0 else high if n == count - 1 else math.exp(ends[0] + (ends[1] - ends[0]) * n / (count - 1))
        for n in range(count)
    ]
