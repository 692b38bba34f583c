"""What a method will read is looked for before any work. Torch-free: said before a model is loaded."""

from __future__ import annotations

from neurodial.errors import PromptError
from neurodial.methods.base import SearchOptions
from neurodial.methods.cna.options import CNA
from neurodial.methods.registry import Method
from neurodial.prompts.answered import refuse_missing
from neurodial.prompts.behaviours import PromptList, read_prompt_list
from neurodial.prompts.pairs import PairSet, refuse_overlap
from neurodial.prompts.prompt import Prompt
from neurodial.provenance import sha256


def check_method(method: Method, pairs: PairSet, *, has_margin: bool = False) -> None:
    """Refuse prompts that lack what a method reads.

    Args:
        method: with its options.
        pairs: the prompts.
        has_margin: whether the margin is a caller's own.

    Raises:
        PromptError: a split is missing, or there are too few neutral prompts.
        MarginError: prompts lack answers or counterparts that the margin reads.
        OverlapError: a neutral prompt is a test prompt of the behaviour, or stands in two splits.
        UnknownNameError: there is no such list of prompts.
    """
    pairs.split("discovery")
    if not isinstance(method, CNA):
        check_search_prompts(method, pairs, has_margin=has_margin)
    elif method.universal is not None:
        read_prompt_list(method.universal.prompts)


def check_search_prompts(method: SearchOptions, pairs: PairSet, *, has_margin: bool = False) -> None:
    """Refuse prompts that lack what a method reads that searches for its strength; as `check_method`."""
    contrasts = (pairs.discovery, pairs.development)
    if not has_margin:
        refuse_missing(method.margin, pairs.behaviour, contrasts)
    neutral_prompts_of(method, pairs)


def neutral_prompts_of(method: SearchOptions, pairs: PairSet) -> tuple[PromptList, list[Prompt], list[Prompt]]:
    """The list of neutral prompts, those for the cost and those for the damage; without splits, dealt by their hashes.

    Raises:
        PromptError: there are too few.
        OverlapError: one is a test prompt of the behaviour, or stands in two splits.
    """
    neutral = read_prompt_list(method.neutral)
    if any(split is not None for split, _ in neutral.rows):
        costing, damage = neutral.split("discovery"), neutral.split("development")
    else:
        ordered = sorted(neutral.prompts, key=sha256)
        costing, damage = tuple(ordered[::2]), tuple(ordered[1::2])
    if not costing or not damage:
        raise PromptError(
            f"The list {neutral.name!r} has {len(neutral.rows)} prompt.", wanted="at least 2 neutral prompts"
        )
    test = pairs.get("test")
    if test is not None:
        held_out: list[Prompt] = [example.prompt for example in (*test.positive, *test.negative)]
        used: list[Prompt] = [prompt for split, prompt in neutral.rows if split != "test"]
        refuse_overlap({"the test split": held_out, f"the neutral prompts {neutral.name!r}": used})
    return neutral, list(costing[: method.passages]), list(damage[: method.passages])
