"""What the columns of a prompt file are called, here and elsewhere, and notes on those that are not read."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from neurodial.errors import PromptError

Side = Literal["positive", "negative"]

CHATS = ("messages", "conversations", "conversation")
"""Columns that hold a whole conversation, in the files that chat models are tuned with."""
PROMPTS = (
    "prompt", "forbidden_prompt", "goal", "behavior", "behaviour", "instruction", "question", "query", *CHATS,
)  # fmt: skip
"""Columns that hold a prompt; the first that a row has is read."""
ANSWERS = ("completion", "response", "output", "answer")
"""Columns that hold an answer to the prompt beside it."""
POSITIVE_ANSWERS = ("positive_answer", "answer_matching_behavior", "answer_matching_behaviour", "chosen")
NEGATIVE_ANSWERS = ("negative_answer", "answer_not_matching_behavior", "answer_not_matching_behaviour", "rejected")
POSITIVES, NEGATIVES = ("positive", "positive_prompt", "pos"), ("negative", "negative_prompt", "neg")
SYSTEMS = ("system", "system_prompt")
"""Columns that hold a system message for the prompt beside them."""
LABELS = {"label": False, "is_harmful": False, "is_unsafe": False, "is_safe": True}
"""Columns that hold a side, and whether true means the negative one."""

_WORDS: dict[str, Side] = {
    **dict.fromkeys(("positive", "pos", "1", "+1", "true", "unsafe", "harmful"), "positive"),
    **dict.fromkeys(("negative", "neg", "0", "-1", "false", "safe", "harmless", "unharmful", "benign"), "negative"),
}
_SPLITS = {"discovery", "development", "dev", "test", "train", "training", "validation", "valid", "val"}
_OWN = ("text", "split", "category")
KNOWN = frozenset(
    (
        *PROMPTS,
        *ANSWERS,
        *SYSTEMS,
        *POSITIVE_ANSWERS,
        *NEGATIVE_ANSWERS,
        *POSITIVES,
        *NEGATIVES,
        *LABELS,
        *_OWN,
        "target",
        "id",
    )
)
"""Every column name that some reader of prompts knows: a table's delimiter is recognised by them."""
_OURS = (*_OWN, "prompt", "positive", "negative", "positive_answer", "negative_answer", "label")
_SAFETY = {word for word in _WORDS if len(word) > 3} - {"true", "false"}
LABEL_WORDS = "positive or negative, unsafe or safe, harmful or harmless (benign), true or false, 1 or 0"


def side_of(label: object) -> Side | None:
    """The side that a label names, in any of the usual words; None where it names none.

    Example:
        >>> side_of("Unsafe "), side_of(0), side_of("1.0"), side_of("bad")
        ('positive', 'negative', 'positive', None)
    """
    return _WORDS.get(str(label).strip().casefold().removesuffix(".0"))


def present(row: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of the names that a row has a value for."""
    return next((name for name in names if row.get(name) is not None), None)


def unread_columns(
    rows: Sequence[tuple[str, Mapping[str, Any]]], used: Collection[str], *, readable: Collection[str] = _OURS
) -> list[str]:
    """Notes on the columns that were not read.

    Args:
        rows: the rows of a file, each with its place.
        used: the columns that were read.
        readable: the columns that this kind of file may have.

    Raises:
        PromptError: one is named almost like a readable column that the file lacks, or holds what such a column
            would: its writer meant it to be read.
    """
    columns: dict[str, list[Any]] = {}
    first: dict[str, str] = {}
    for place, row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
            first.setdefault(name, place)
    unread = [name for name in columns if name not in used and name != "category"]
    lacking = [name for name in readable if name not in columns]
    for name in unread:
        meant = near(name, lacking) or _meant(columns[name], lacking)
        if meant is not None:
            raise PromptError(
                f"{first[name]}: the column {name!r} is not known. Did you mean {meant!r}?",
                wanted=f"a column {meant!r}" + (" with discovery, development and test" if meant == "split" else ""),
                fix="Name it so, or take it out.",
            )
    named = ", ".join(repr(name) if name else "one without a name" for name in unread)
    return [f"not read: column{'s' * (len(unread) > 1)} {named}"] if unread else []


def near(name: str, known: Iterable[str]) -> str | None:
    """The known name that a name is a misspelling of; None where there is none.

    Example:
        >>> near("postive", ["positive", "split"]), near("prompt_id", ["prompt"]), near("note", ["split"])
        ('positive', None, None)
    """
    names = [candidate for candidate in known if not name.startswith(f"{candidate}_")]
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.8)), None)


def _meant(values: list[Any], lacking: Collection[str]) -> str | None:
    """The column that a file lacks and whose values another column has: splits, or labels of safety."""
    words = {str(value).strip().casefold() for value in values}
    if "split" in lacking and len(words) > 1 and words <= _SPLITS:
        return "split"
    is_label = len(words) == 2 and words <= _SAFETY and len({side_of(word) for word in words}) == 2
    return "label" if is_label and "label" in lacking else None
