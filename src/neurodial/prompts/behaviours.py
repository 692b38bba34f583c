"""The behaviours that ship with the package, and the user's own by path, or as two lists."""

from __future__ import annotations

from pathlib import Path

from neurodial.errors import FileError, PromptError, UnknownNameError, near_names
from neurodial.files import near_files
from neurodial.prompts.lists import PromptList, library, read_list, read_prompt_list, read_texts, tables
from neurodial.prompts.looks import own_format, what_it_is
from neurodial.prompts.pairs import Behaviour, PairSet
from neurodial.prompts.prompt import Example
from neurodial.prompts.read import ENDINGS_SHOWN, PAIR_ENDINGS, assemble, read_pair_file
from neurodial.prompts.records import Placed
from neurodial.prompts.table import read_table

__all__ = [
    "PromptList",
    "behaviour_names",
    "describe_behaviour",
    "read_pairs",
    "read_prompt_list",
    "read_texts",
    "read_two_lists",
]


def behaviour_names() -> list[str]:
    """Names of the contrast sets that ship with the package.

    Example:
        >>> "refusal" in behaviour_names()
        True
    """
    return sorted(name for name, table in tables().items() if table.get("kind", "pairs") == "pairs")


def read_pairs(source: str) -> PairSet:
    """A shipped behaviour by name, or a user's own file by path.

    Raises:
        UnknownNameError: neither a shipped behaviour nor a file; offers near names, or says what such a file is.
    """
    path = Path(source)
    if path.suffix.casefold() in PAIR_ENDINGS:
        if not path.exists():
            raise FileError(
                f"There is no file {source}.", wanted=f"a {ENDINGS_SHOWN} file of prompts", fix=near_files(path)
            )
        own = own_format(path)
        if own is not None:
            raise UnknownNameError(f"The file {source} is no behaviour.", wanted="contrasted prompts", fix=own)
        return read_pair_file(path)
    if source in behaviour_names():
        return read_pair_file(library() / f"{source}.toml")
    accepted = f"a shipped behaviour, or the path of a {ENDINGS_SHOWN} file"
    if path.exists():
        raise UnknownNameError(f"The file {source} is no behaviour.", wanted=accepted, fix=what_it_is(path))
    beside = near_files(path) if path.suffix or "/" in source else None
    raise UnknownNameError(
        f"There is no behaviour {source!r}.", wanted=accepted, fix=beside or near_names(source, behaviour_names())
    )


def read_two_lists(positive: Path, negative: Path) -> PairSet:
    r"""A behaviour from two files, each a list of prompts: those that show it, and those that show its opposite.

    The prompts of each side are dealt to the splits separately, unless every line of both files names a split.

    Raises:
        FileError: a file can't be read.
        PromptError: a line holds no prompt, a prompt is listed twice, or a side is empty.
        OverlapError: a prompt is on both sides or in two splits.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> files = folder / "rude.txt", folder / "kind.txt"
        >>> for file in files:
        ...     _ = file.write_text("".join(f"{file.stem} {number}\n" for number in range(10)))
        >>> len(read_two_lists(*files).discovery)
        8
    """
    sides = {"positive": read_list(positive), "negative": read_list(negative)}
    for side, path in (("positive", positive), ("negative", negative)):
        if not sides[side]:
            raise PromptError(f"{path} holds no prompts.", wanted=f"at least one {side} prompt")
    is_same = positive.name == negative.name
    placed = [
        Placed(Example(row.prompt), side, row.split, f"{side}: {row.place}" if is_same else row.place)  # type: ignore[arg-type]
        for side, listed in sides.items()
        for row in listed
    ]
    return assemble(Behaviour(f"{positive.stem}-against-{negative.stem}"), placed)


def describe_behaviour(name: str) -> tuple[str, str]:
    """Title and description of a shipped behaviour, without reading its prompts."""
    table = read_table(library() / f"{name}.toml")
    return table.title, table.description
