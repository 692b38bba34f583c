"""Chooses one of several paths, and a strength on it: layers, tokens, signs, mixtures of effects.

1. Where there are many, a first look: the mean margin of a few development prompts at strength 1 (or the end of the
   path), of every path. The few that move it furthest are searched.
2. The one search along each of those, within the limits; where there are prompts enough, on a part of them. All prompts
   then say which path goes furthest for its damage, and that one alone is searched on all of them, from there.
3. Otherwise the best of all searches: of those that reach a target the least damage, else the best margin.
4. Where no path keeps the limits and reaches the target: an error, or (`strict=False`) the best that was found, with
   what it falls short of: the best margin within the other limits; where even the smallest strength breaks one, the
   least damage.
Only development prompts are read: no test prompt is passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from neurodial.errors import BudgetError, OptionError
from neurodial.strength.development import Development, PathSearch
from neurodial.strength.limits import Limits, Trial, better

_TOGETHER = 8  # paths that share a batch
_ROUNDING = 1e-9  # nats; less is no damage


@dataclass(frozen=True)
class FirstLook:
    """How many paths are searched, and on which prompts they are picked.

    Attributes:
        prompts: development prompts of the first look.
        finalists: paths that are searched.
        rounds: of each search, at most.

    Example:
        >>> FirstLook().finalists
        2
    """

    prompts: int = 6
    finalists: int = 2
    rounds: int = 3


@dataclass(frozen=True)
class PathChoice:
    """The chosen path and strength.

    Attributes:
        path: the path with its search.
        best: the chosen trial on it.
        trials: all trials of that path, in the order of their strength.
        others: the best trial of every other path within the limits; or, where a first look told them apart, what all
            prompts gave at the strength that the look found.
        within_limits: whether the limits are kept; if no path keeps them, the trial of least damage was chosen.
        shortfall: what could not be met, in words; empty where all was.
    """

    path: PathSearch
    best: Trial
    trials: tuple[Trial, ...]
    others: tuple[tuple[PathSearch, Trial], ...] = ()
    within_limits: bool = True
    shortfall: str = ""


def finalists(
    development: Development, searches: Sequence[PathSearch], look: FirstLook | None = None
) -> list[PathSearch]:
    """The paths that move the margin of a few prompts furthest at strength 1, best first; all if they are few.

    Raises:
        OptionError: there is no path.
    """
    look = look or FirstLook()
    if not searches:
        raise OptionError("There is nothing to choose from.", wanted="at least one layer")
    if len(searches) <= look.finalists:
        return list(searches)
    few = development.examples[: look.prompts]
    margins: list[float] = []
    with development.progress("a first look at layers and tokens", len(searches)) as advance:
        for start in range(0, len(searches), _TOGETHER):
            paths = [search.path for search in searches[start : start + _TOGETHER]]
            steered = [path.at(min(max(1.0, path.low), path.high)) for path in paths]
            margins += [margin for margin, _ in development.means(few, steered)]
            advance(len(paths))
    direction = Limits(None, None, development.direction)
    ranked = sorted(range(len(searches)), key=lambda place: direction.distance_at(margins[place]))
    return [searches[place] for place in ranked[: look.finalists]]


def choose_path(searches: Sequence[PathSearch], limits: Limits, *, rounds: int = 3, strict: bool = True) -> PathChoice:
    """The best path, and the best strength on it.

    Args:
        searches: the paths.
        limits: to keep.
        rounds: of each search, at most.
        strict: whether it is an error if no path keeps the limits and reaches the target; otherwise the best that was
            found is chosen.

    Raises:
        BudgetError: no path keeps the limits or none reaches the target, and `strict`.
        OptionError: there is no path.
    """
    if not searches:
        raise OptionError("There is nothing to choose from.", wanted="at least one path")
    looks = _first_looks(searches, limits, rounds)
    if looks:
        led = _led(looks, limits, rounds)
        if led is not None:
            return led
    successes: list[tuple[PathSearch, Trial, tuple[Trial, ...]]] = []
    problems: dict[PathSearch, BudgetError] = {}
    for path in searches:
        try:
            successes.append((path, *path.best(limits, rounds=rounds)))
        except BudgetError as error:
            problems[path] = error
    if not successes and strict:
        raise problems[searches[-1]]
    if not successes and limits.target is not None and limits.target_required:
        choice = choose_path(searches, replace(limits, target_required=False), rounds=rounds, strict=False)
        return replace(choice, shortfall=problems[choice.path].problem)
    if not successes:
        least = [(path, path.measure([path.path.low])[0]) for path in searches]
        path, trial = min(least, key=lambda pair: pair[1].divergence)
        return PathChoice(path, trial, (trial,), within_limits=False, shortfall=problems[path].problem)
    best = successes[0]
    for candidate in successes[1:]:
        best = best if better(best[1], candidate[1], limits) is best[1] else candidate
    others = tuple((path, trial) for path, trial, _ in successes if path is not best[0])
    return PathChoice(*best, others)


def _led(looks: dict[PathSearch, Trial], limits: Limits, rounds: int) -> PathChoice | None:
    """The search along the first path; None where it keeps no limit, or another path was seen to go further."""
    first, *rest = looks
    try:
        best, trials = first.best(limits, near=looks[first].strength, rounds=rounds)
    except BudgetError:
        return None
    others = tuple((path, looks[path]) for path in rest)
    if any(limits.allows(other) and better(best, other, limits) is other for _, other in others):
        return None
    return PathChoice(first, best, trials, others)


def _first_looks(searches: Sequence[PathSearch], limits: Limits, rounds: int) -> dict[PathSearch, Trial]:
    """What each path comes to on all prompts at the strength that a look at a part of them found, the best path first.

    Empty where nothing is gained by a look, no path keeps the limits in it, or none moves the margin as asked. To first
    order a path's margin goes with the strength and its damage with the square: the best has most of the one, squared,
    for the other.
    """
    if len(searches) < 2 or (limits.budget is None and limits.target is None):
        return {}
    found: dict[PathSearch, Trial] = {}
    for path in searches:
        look = path.first_look
        if look is None:
            return {}
        least = None if limits.least_reference is None else look.development.unsteered.reference
        of_part = replace(limits, least_reference=least, max_degenerate=None, max_broken=None)
        try:
            found[path] = path.measure([look.best(of_part, rounds=rounds)[0].strength])[0]
        except BudgetError:
            continue
    before = searches[0].development.unsteered

    def worth(path: PathSearch) -> float:
        gain = limits.distance(before) - limits.distance(found[path])
        return gain * abs(gain) / max(found[path].divergence, _ROUNDING)

    ranked = sorted(found, key=worth, reverse=True)
    return {path: found[path] for path in ranked} if ranked and worth(ranked[0]) > 0 else {}
