"""Another test split for a prompt set: discovery and development stay, the test prompts come from a known data set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from neurodial.errors import PromptError
from neurodial.prompts.hub import DATASETS, Load, file_sides, is_file, read_dataset
from neurodial.prompts.pairs import Contrast, PairSet
from neurodial.prompts.prompt import Prompt


def with_test_set(pairs: PairSet, name: str, limit: int | None = None, *, load: Load | None = None) -> PairSet:
    """The set with the harmful prompts of a data set as its positive test prompts.

    The negative side is the data set's safe prompts where it has some, else the set's own.

    Args:
        pairs: a prompt set.
        name: a known data set, or the path of a file: harmful prompts, or harmful and safe ones with labels.
        limit: at most this many prompts of each side.
        load: how rows are loaded; the Hub by default.

    Raises:
        OverlapError: a prompt of the data set is also in discovery or development.
        PromptError: the data set has no harmful prompts, or can't be reached.

    Example:
        >>> from neurodial.prompts.pairs import PairSet
        >>> pairs = PairSet.of([f"Harm {n}" for n in range(10)], [f"Help {n}" for n in range(10)])
        >>> rows = [{"prompt": "Rob a bank"}]
        >>> with_test_set(pairs, "strongreject", load=lambda source: rows).test.positive[0].prompt
        'Rob a bank'
    """
    notes = pairs.notes
    if is_file(name):
        sides = file_sides(Path(name))
        harmful, safe, notes = sides.prompts["harmful"], sides.prompts["safe"], (*notes, *sides.notes)
    else:
        harmful, safe = read_dataset(name, "harmful", load=load), ()
    if not harmful:
        raise PromptError(f"{name} has no harmful prompts.", wanted="at least one labelled unsafe, harmful or positive")
    if name in DATASETS and "safe" in DATASETS[name].sources:
        safe = read_dataset(name, "safe", load=load)
    if safe:
        negative = Contrast.of(_once(harmful, limit), _once(safe, limit)).negative
    elif pairs.get("test") is not None:
        negative = pairs.test.negative[:limit]
    else:
        raise PromptError(f"Neither {name!r} nor the prompt set has negative test prompts.", wanted="at least one")
    test = Contrast(Contrast.of(_once(harmful, limit), ["-"]).positive, negative)
    return PairSet(pairs.behaviour, (pairs.get("discovery"), pairs.get("development"), test), notes)


def _once(prompts: Iterable[Prompt], limit: int | None) -> tuple[Prompt, ...]:
    return tuple(dict.fromkeys(prompts))[:limit]
