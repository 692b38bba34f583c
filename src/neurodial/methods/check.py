"""What a method will read is looked for before any work. Torch-free: said before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from neurodial.errors import OptionError, PromptError
from neurodial.methods.base import SearchOptions
from neurodial.methods.cna.options import CNA
from neurodial.methods.registry import Method
from neurodial.prompts.answered import refuse_missing
from neurodial.prompts.behaviours import PromptList, read_prompt_list
from neurodial.prompts.pairs import PairSet, refuse_overlap
from neurodial.prompts.prompt import Prompt
from neurodial.provenance import sha256


class NeutralPrompts(NamedTuple):
    """Neutral prompts: the list that they come from, those for the cost, and those for the damage."""

    source: PromptList
    costing: list[Prompt]
    damage: list[Prompt]


def check_method(method: Method, pairs: PairSet) -> None:
    """Refuse prompts that lack what a method reads.

    Raises:
        PromptError: a split is missing, or there are too few neutral prompts.
        MarginError: prompts lack answers or counterparts that the margin reads.
        OverlapError: a neutral prompt is a test prompt of the behaviour, or is in two splits.
        UnknownNameError: there is no such list of prompts.
    """
    pairs.split("discovery")
    if not isinstance(method, CNA):
        check_search_prompts(method, pairs)
    elif method.universal is not None:
        read_prompt_list(method.universal.prompts)


def check_without_gradients(method: Method) -> CNA:
    """The method, refused where an inference engine can't run it: it gives no gradients.

    Raises:
        OptionError: names the ways round.
    """
    if not isinstance(method, CNA):
        raise OptionError(
            f"Method {type(method).__name__.lower()} needs gradients, and an inference engine gives none.",
            wanted="method cna with an engine",
            fix="Find doses in transformers, on a quantised base (--load-in 4bit) or over several devices "
            "(--device-map auto), and serve them in the engine; or find a circuit by cna here, and choose its dial by "
            "what answers show.",
        )
    return method


def check_search_prompts(method: SearchOptions, pairs: PairSet, *, has_margin: bool = False) -> NeutralPrompts:
    """The neutral prompts, after everything that can be wrong with prompts was looked for.

    Args:
        method: with its options.
        pairs: the prompts.
        has_margin: whether the margin is a caller's own.

    Raises:
        PromptError: a split is missing, or there are too few neutral prompts.
        MarginError: prompts lack answers or counterparts that the margin reads.
        OverlapError: a neutral prompt is a test prompt of the behaviour, or is in two splits.
        UnknownNameError: there is no such list of prompts.
    """
    contrasts = (pairs.discovery, pairs.development)
    if not has_margin:
        refuse_missing(method.margin, pairs.behaviour, contrasts)
    neutral = read_prompt_list(method.neutral)
    test = pairs.get("test")
    if test is not None:
        held_out: list[Prompt] = [example.prompt for example in (*test.positive, *test.negative)]
        used: list[Prompt] = [prompt for split, prompt in neutral.rows if split != "test"]
        refuse_overlap({"the test split": held_out, f"the neutral prompts {neutral.name!r}": used})
    costing, damage = _dealt(neutral)
    return NeutralPrompts(neutral, list(costing[: method.passages]), list(damage[: method.passages]))


def _dealt(neutral: PromptList) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """By the list's own splits; a list without any is dealt by its prompts' hashes."""
    if any(split is not None for split, _ in neutral.rows):
        return neutral.split("discovery"), neutral.split("development")
    ordered = sorted(neutral.prompts, key=sha256)
    if len(ordered) < 2:
        raise PromptError(f"The list {neutral.name!r} has {len(ordered)} prompt.", wanted="at least 2 neutral prompts")
    return ordered[::2], ordered[1::2]
