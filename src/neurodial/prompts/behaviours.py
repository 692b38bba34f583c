"""The behaviours and prompt lists that ship with the package, and the user's own by path."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from neurodial.errors import FileError, PromptError, UnknownNameError, near_names
from neurodial.prompts.pairs import SPLITS, PairSet, Split, refuse_overlap
from neurodial.prompts.prompt import prompt_key
from neurodial.prompts.read import read_pair_file, read_rows
from neurodial.prompts.table import read_table
from neurodial.provenance import canonical_json, sha256

_FILE_ENDINGS = {".jsonl", ".csv", ".toml"}


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


def behaviour_names() -> list[str]:
    """Names of the contrast sets that ship with the package.

    Example:
        >>> "refusal" in behaviour_names()
        True
    """
    return sorted(name for name, table in _tables().items() if table.get("kind", "pairs") == "pairs")


def read_pairs(source: str) -> PairSet:
    """A shipped behaviour by name, or a user's own file by path.

    Raises:
        UnknownNameError: neither a shipped behaviour nor a file; offers near names.
    """
    path = Path(source)
    if path.suffix in _FILE_ENDINGS:
        if not path.exists():
            raise FileError(f"There is no file {source}.", wanted="a JSONL, CSV or TOML file of prompts")
        return read_pair_file(path)
    if source in behaviour_names():
        return read_pair_file(_library() / f"{source}.toml")
    raise UnknownNameError(
        f"There is no behaviour {source!r}.",
        wanted="a shipped behaviour, or the path of a .jsonl, .csv or .toml file",
        fix=near_names(source, behaviour_names()),
    )


def prompt_list_names() -> list[str]:
    """The prompt lists that ship with neurodial.

    Example:
        >>> "neutral" in prompt_list_names()
        True
    """
    return sorted(name for name, table in _tables().items() if table.get("kind") == "prompts")


def read_prompt_list(source: str) -> PromptList:
    """A shipped list (`neutral`, `diverse`, `over_refusal`), or a user's own: JSONL with `prompt`, or plain text.

    Raises:
        UnknownNameError: neither a shipped list nor a file.
        PromptError: a line holds no prompt, or a prompt stands twice or in two splits.

    Example:
        >>> len(read_prompt_list("diverse").prompts) >= 100
        True
    """
    shipped = prompt_list_names()
    path = _library() / f"{source}.jsonl" if source in shipped else Path(source)
    if not path.is_file():
        raise UnknownNameError(f"There is no prompt list {source!r}.", fix=near_names(source, shipped))
    rows = list(_text_rows(path)) if path.suffix == ".txt" else list(_json_rows(path))
    if not rows:
        raise PromptError(f"{path} holds no prompts.", wanted="at least one")
    by_split: dict[str, list[Any]] = {}
    for split, prompt in rows:
        by_split.setdefault(split or "the lines without a split", []).append(prompt)
    for prompts in by_split.values():
        _refuse_copies(path, prompts)
    refuse_overlap(by_split)
    return PromptList(path.stem, tuple(rows))


def read_texts(path: Path) -> list[str]:
    """Prompts from a text file (one a line) or a JSONL file with `prompt`."""
    rows = _text_rows(path) if path.suffix != ".jsonl" else _json_rows(path)
    return [prompt for _, prompt in rows]


def _text_rows(path: Path) -> list[tuple[Split | None, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} can't be read: {error}.") from error
    return [(None, line.strip()) for line in lines if line.strip()]


def _json_rows(path: Path) -> list[tuple[Split | None, str]]:
    rows: list[tuple[Split | None, str]] = []
    for place, row in read_rows(path):
        prompt, split = row.get("prompt"), row.get("split")
        if not isinstance(prompt, str) or not prompt.strip():
            raise PromptError(f"{place} holds no prompt.", wanted='{"prompt": "…"}')
        if split is not None and split not in SPLITS:
            raise PromptError(f"{place} has split {split!r}.", wanted=", ".join(SPLITS))
        rows.append((split, prompt))
    return rows


def _refuse_copies(path: Path, prompts: list[str]) -> None:
    text, count = Counter(map(prompt_key, prompts)).most_common(1)[0]
    if count > 1:
        raise PromptError(
            f"{text!r} stands {count} times in {path}.", wanted="each prompt once", fix="Take the copies out."
        )


def _library() -> Path:
    return Path(str(resources.files("neurodial.prompts"))) / "library"


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(_library().glob("*.toml"))}


def describe_behaviour(name: str) -> tuple[str, str]:
    """Title and description of a shipped behaviour, without reading its prompts."""
    table = read_table(_library() / f"{name}.toml")
    return table.title, table.description
