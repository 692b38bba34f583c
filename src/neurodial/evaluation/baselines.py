"""The methods that a circuit is compared with, ready to be dialled: dial 1 is what the one search chose.

1. A method's paths (`methods/comparators.py`).
2. A first look at them where there are many, then the search along the finalists, on the development split
   (`strength/choose_path.py`), within the same limits for every method.
3. What has no strength to search (random controls, published forms, a system prompt) is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neurodial.errors import OptionError
from neurodial.intervention.base import Intervention
from neurodial.methods.comparators import COMPARATORS, Comparator, MethodInputs, check_names, system_prompts
from neurodial.strength.choose_path import FirstLook, PathChoice, choose_path, finalists
from neurodial.strength.development import Development, PathSearch
from neurodial.strength.path import StrengthPath

Known = Mapping[str, Any]


@dataclass(frozen=True)
class Baseline:
    """A method ready to be dialled: dial 1 is its chosen strength.

    Attributes:
        name: which method.
        label: its name in tables.
        intervention: None for a system prompt.
        prompts: the system prompts for dial 1 and dial -1.
        details: what was chosen, with the raw numbers.
    """

    name: str
    label: str
    intervention: Intervention | None = None
    prompts: tuple[str, str] | None = None
    details: dict[str, Any] = field(default_factory=dict)


def baselines(
    name: str,
    inputs: MethodInputs,
    development: Development | None,
    budget: float | None,
    *,
    known: Known | None = None,
    look: FirstLook | None = None,
) -> list[Baseline]:
    """A method at its chosen strength; random controls once for each seed.

    Args:
        name: which one.
        inputs: what it is made from.
        development: where its strength is searched; None is allowed for what has none.
        budget: the divergence allowed, in nats per token.
        known: the details of an earlier search on the same data, which is then not repeated.
        look: how many paths are searched.

    Raises:
        UnknownNameError: no such method.
        OptionError: it needs a circuit or a development split that is not there.
    """
    [name] = check_names([name])
    method = COMPARATORS[name]
    if name == "prompt":
        remove, induce = system_prompts(inputs.behaviour)
        return [Baseline(name, name, prompts=(remove, induce), details={"remove": remove, "induce": induce})]
    if method.needs == "margin" and development is None and known is None:
        raise OptionError("There is no development split to choose on.", wanted="a prompt set with one")
    paths = method.paths(inputs)
    if method.needs != "margin":
        return [_at(method, path, path.high, dict(path.details)) for path in paths]
    if known is not None:
        return [_at(method, _path_of(known, paths), known["strength"], dict(known))]
    assert development is not None  # noqa: S101  # refused above
    choice = search_paths(paths, development, budget, look=look)
    return [_at(method, choice.path.path, choice.best.strength, details_of(choice, development))]


def search_paths(
    paths: list[StrengthPath], development: Development, budget: float | None, *, look: FirstLook | None = None
) -> PathChoice:
    """The best of a method's paths within the limits, or what does least damage where none keeps to them."""
    look = look or FirstLook()
    searches = finalists(development, [PathSearch(development, path) for path in paths], look)
    return choose_path(searches, development.limits(budget, None), rounds=look.rounds, strict=False)


def details_of(choice: PathChoice, development: Development) -> dict[str, Any]:
    """What was chosen, as a report keeps it."""
    before, best = development.unsteered, choice.best
    answers = {
        "development_degenerate": best.degenerate,
        "development_degenerate_unsteered": before.degenerate,
        "development_broken": best.broken,
        "development_broken_unsteered": before.broken,
    }
    return {
        **choice.path.path.details,
        "strength": best.strength,
        "development_margin": best.margin,
        "development_margin_unsteered": before.margin,
        "development_kl": best.divergence,
        **{name: value for name, value in answers.items() if value is not None},
        "within_kl_limit": choice.within_limits,
        "trials": len(choice.trials),
    }


def _at(method: Comparator, path: StrengthPath, strength: float, details: dict[str, Any]) -> Baseline:
    label = f"{method.name} ({method.label(details, strength)})"
    return Baseline(method.name, label, path.at(strength), details=details)


def _path_of(known: Known, paths: list[StrengthPath]) -> StrengthPath:
    """The path that an earlier search chose, told by its details."""
    for path in paths:
        if all(known.get(name) == value for name, value in path.details.items() if not isinstance(value, float)):
            return path
    raise OptionError(
        "What was chosen for a method before is none of its choices now.",
        wanted="the same model and prompts as in the earlier run",
        fix="Choose a new output folder.",
    )
