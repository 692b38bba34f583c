"""Another test split for a prompt set: discovery and development stay, the test prompts come from a known data set."""

from __future__ import annotations

from neurodial.errors import PromptError
from neurodial.prompts.hub import DATASETS, Load, read_dataset
from neurodial.prompts.pairs import Contrast, PairSet


def with_test_set(pairs: PairSet, name: str, limit: int | None = None, *, load: Load | None = None) -> PairSet:
    """The set with the harmful prompts of a data set as its positive test prompts.

    The negative side is the data set's safe prompts where it has some, else the set's own.

    Args:
        pairs: a prompt set.
        name: a known data set, or the path of a file of harmful prompts.
        limit: at most this many prompts of each side.
        load: how rows are got; the Hub by default.

    Raises:
        OverlapError: a prompt of the data set stands in discovery or development.
        PromptError: the data set has no harmful prompts, or can't be reached.

    Example:
        >>> from neurodial.prompts.pairs import PairSet
        >>> pairs = PairSet.of([f"Harm {n}" for n in range(10)], [f"Help {n}" for n in range(10)])
        >>> rows = [{"prompt": "Rob a bank"}]
        >>> with_test_set(pairs, "strongreject", load=lambda source: rows).test.positive[0].prompt
        'Rob a bank'
    """
    harmful = read_dataset(name, "harmful", limit=limit, load=load)
    has_safe = name in DATASETS and "safe" in DATASETS[name].sources
    if has_safe:
        negative = Contrast.of(harmful, read_dataset(name, "safe", limit=limit, load=load)).negative
    elif pairs.get("test") is not None:
        negative = pairs.test.negative[:limit]
    else:
        raise PromptError(f"Neither {name!r} nor the prompt set has negative test prompts.", wanted="at least one")
    test = Contrast(Contrast.of(harmful, ["-"]).positive, negative)
    return PairSet(pairs.behaviour, (pairs.get("discovery"), pairs.get("development"), test))
