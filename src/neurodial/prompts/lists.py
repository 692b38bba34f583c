"""Lists of prompts without a contrast: those that ship with the package, and the user's own files."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from neurodial.errors import FileError, PromptError, UnknownNameError, near_names
from neurodial.prompts.columns import SYSTEMS, unread_columns
from neurodial.prompts.foreign import UnclearError, as_prompt
from neurodial.prompts.pairs import SPLITS, Split, refuse_overlap
from neurodial.prompts.prompt import Prompt, prompt_key
from neurodial.prompts.records import chat_of, log_notes, refuse_quotes, stripped
from neurodial.prompts.rows import Row, kind_of, read_text, text_rows
from neurodial.provenance import canonical_json, sha256

_READABLE = ("prompt", "split")


@dataclass(frozen=True)
class PromptList:
    """Prompts without a contrast: neutral ones to measure damage on, diverse ones for the universal filter.

    Attributes:
        name: the list's name.
        rows: pairs of split (None where the list has no splits) and prompt.
    """

    name: str
    rows: tuple[tuple[Split | None, str], ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        """All prompts."""
        return tuple(prompt for _, prompt in self.rows)

    def split(self, name: Split) -> tuple[str, ...]:
        """The prompts of one split.

        Raises:
            PromptError: the list has no such split.
        """
        chosen = tuple(prompt for split, prompt in self.rows if split == name)
        if not chosen:
            raise PromptError(f"The list {self.name!r} has no {name} prompts.", wanted=f"lines with split {name!r}")
        return chosen

    @property
    def hash(self) -> str:
        """SHA-256 of the prompts; their order does not matter."""
        return sha256(canonical_json(sorted(self.prompts)))


@dataclass(frozen=True)
class Listed:
    """A prompt of a list, its split where one is named, and its place in the file."""

    prompt: Prompt
    split: Split | None
    place: str


def prompt_list_names() -> list[str]:
    """The prompt lists that ship with neurodial.

    Example:
        >>> "neutral" in prompt_list_names()
        True
    """
    return sorted(name for name, table in tables().items() if table.get("kind") == "prompts")


def read_prompt_list(source: str) -> PromptList:
    """A shipped list (`neutral`, `diverse`, `over_refusal`), or a user's own file of prompts.

    Raises:
        UnknownNameError: neither a shipped list nor a file.
        PromptError: a line holds no prompt, or a prompt is listed twice or in two splits.

    Example:
        >>> len(read_prompt_list("diverse").prompts) >= 100
        True
    """
    shipped = prompt_list_names()
    path = library() / f"{source}.jsonl" if source in shipped else Path(source)
    if not path.is_file():
        raise UnknownNameError(f"There is no prompt list {source!r}.", fix=near_names(source, shipped))
    listed = read_list(path)
    if not listed:
        raise PromptError(f"{path} holds no prompts.", wanted="at least one")
    rows = [(row.split, _plain(row)) for row in listed]
    by_split: dict[str, list[Any]] = {}
    for split, prompt in rows:
        by_split.setdefault(split or "the lines without a split", []).append(prompt)
    for prompts in by_split.values():
        _refuse_copies(path, prompts)
    refuse_overlap(by_split)
    return PromptList(path.stem, tuple(rows))


def read_texts(path: Path) -> list[Prompt]:
    """Prompts from a file: one a line, or rows of JSON or of a table with `prompt`."""
    return [row.prompt for row in read_list(path)]


def read_list(path: Path) -> tuple[Listed, ...]:
    """The prompts of a file, each with its split and its place; columns that are not read are logged.

    Raises:
        FileError: the file can't be read.
        PromptError: a line holds no prompt, or two sides of one.
    """
    if path.suffix.casefold() == ".toml":
        raise FileError(
            f"{path} is a behaviour's table.",
            wanted="a list of prompts: one a line, or rows with prompt",
            fix="--behaviour takes it.",
        )
    return text_list(read_text(path), path.name, path.suffix)


def text_list(text: str, name: str, ending: str = "") -> tuple[Listed, ...]:
    r"""The prompts of a text; `name` stands for it in messages.

    Raises:
        PromptError: a line holds no prompt, or two sides of one.

    Example:
        >>> [row.prompt for row in text_list("id;prompt\n1;Hi, you\n", "ask.csv", ".csv")]
        ['Hi, you']
    """
    rows, notes = stripped(text_rows(text, name, ending), is_table=kind_of(text, ending) == "table")
    listed, used = listed_rows(rows)
    notes += unread_columns(rows, used, readable=_READABLE)
    refuse_quotes(name, [row.prompt for row in listed])
    log_notes(f"{name}: {note}" for note in notes)
    return listed


def listed_rows(rows: Collection[Row]) -> tuple[tuple[Listed, ...], frozenset[str]]:
    """The prompts of rows, all from columns of one name, and the columns that were read.

    Raises:
        PromptError: a row holds no prompt, or two sides of one.
    """
    listed: list[Listed] = []
    used: frozenset[str] = frozenset()
    for place, row in rows:
        try:
            value, columns = as_prompt(row)
        except UnclearError as error:
            raise PromptError(f"{place} {error}.", wanted='one prompt, such as {"prompt": "…"}') from error
        if used and (columns ^ used) - {"split", *SYSTEMS}:
            (column,) = used - {"split", *SYSTEMS}
            raise PromptError(f"{place} holds no prompt in the column {column!r}, as the lines before it do.")
        used |= columns
        listed.append(Listed(_simple(chat_of(place, row, value)), _split(place, row), place))
    return tuple(listed), used


def library() -> Path:
    """The folder of the sets and lists that ship with the package."""
    return Path(str(resources.files("neurodial.prompts"))) / "library"


@cache
def tables() -> dict[str, dict[str, Any]]:
    """What ships with the package, by name: the fields of its tables."""
    return {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(library().glob("*.toml"))}


def _simple(prompt: Prompt) -> Prompt:
    """A chat of one user message as its text: both are the same prompt."""
    is_text = not isinstance(prompt, str) and len(prompt) == 1 and prompt[0].role == "user"
    return prompt[0].content if is_text else prompt  # type: ignore[union-attr]


def _plain(row: Listed) -> str:
    if not isinstance(row.prompt, str):
        raise PromptError(
            f"{row.place} holds a chat of {len(row.prompt)} messages.", wanted="a list of texts, or of single messages"
        )
    return row.prompt


def _split(place: str, row: dict[str, Any]) -> Split | None:
    given = row.get("split")
    name = given.strip().casefold() if isinstance(given, str) else given
    if name is not None and name not in SPLITS:
        raise PromptError(f"{place} has split {given!r}.", wanted=", ".join(SPLITS))
    return name


def _refuse_copies(path: Path, prompts: list[str]) -> None:
    text, count = Counter(map(prompt_key, prompts)).most_common(1)[0]
    if count > 1:
        raise PromptError(
            f"{text!r} is listed {count} times in {path}.", wanted="each prompt once", fix="Take the copies out."
        )
