"""Prompt files to a `PairSet`: any file of rows (`rows.py`), two lists, or the TOML file of a behaviour.

A TOML file holds the behaviour's fields and either `file = "pairs.jsonl"` or two lists, `positive` and `negative`.
Where no record names a split, records are dealt to the splits; both sides of a record go to the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurodial.errors import FileError, PromptError
from neurodial.prompts.columns import Side
from neurodial.prompts.pairs import SPLITS, Behaviour, Contrast, PairSet, Split, deal
from neurodial.prompts.prompt import prompt_key, prompt_words
from neurodial.prompts.records import Placed, Records, log_notes, place_rows, read_records, text_records
from neurodial.prompts.rows import JSON_ENDINGS, TABLE_ENDINGS, clip, pasted_ending, read_rows
from neurodial.prompts.table import read_table

__all__ = ["ENDINGS_SHOWN", "PAIR_ENDINGS", "assemble", "read_pair_file", "read_pair_text", "read_rows"]

PAIR_ENDINGS = (*JSON_ENDINGS, *TABLE_ENDINGS, ".toml")
"""Endings of the files that hold contrasted prompts."""
ENDINGS_SHOWN = ".json, .tsv, .jsonl, .csv or .toml"


def read_pair_file(path: Path) -> PairSet:
    """A `PairSet` from a file of rows (JSON lines, a JSON list, CSV, TSV) or the TOML file of a behaviour.

    What was read differently from how it is written, or not read, is logged and kept as the set's notes.

    Raises:
        FileError: the file can't be read, or has an ending that is not known.
        PromptError: a record is malformed, a prompt is listed twice, a side is empty.
        OverlapError: a prompt is in two splits.
    """
    ending = path.suffix.casefold()
    if ending not in PAIR_ENDINGS:
        raise FileError(f"{path} ends in {path.suffix!r}.", wanted=f"a {ENDINGS_SHOWN} file")
    if ending == ".toml":
        return _read_toml(path)
    return _pair_set(Behaviour(path.stem), read_records(path))


def read_pair_text(text: str, name: str) -> PairSet:
    """A `PairSet` from a pasted text; its content decides its kind.

    Raises:
        PromptError: a record is malformed, a prompt is listed twice, a side is empty.
        OverlapError: a prompt is in two splits.
    """
    return _pair_set(Behaviour(name), text_records(text, name, pasted_ending(text)))


def assemble(behaviour: Behaviour, placed: Sequence[Placed], notes: Iterable[str] = ()) -> PairSet:
    """Put examples into their splits; where no record names a split, deal the records 40 / 20 / 40."""
    _refuse_copies(placed)
    is_dealt = all(item.split is None for item in placed)
    if is_dealt:
        _contrast(placed)  # refuses prompts that clash, before they are split
        placed = _dealt(placed)
    without = next((item for item in placed if item.split is None), None)
    if without is not None:
        raise PromptError(
            f"{without.place} names no split, others do.",
            wanted=f'"split" on every line ({", ".join(SPLITS)}) or on none',
        )
    contrasts: list[Contrast | None] = []
    for split in SPLITS:
        chosen = [item for item in placed if item.split == split]
        too_few = not chosen or (is_dealt and len({item.side for item in chosen}) < 2)
        contrasts.append(None if too_few else _contrast(chosen, f"In the {split} split: "))
    return PairSet(behaviour, (contrasts[0], contrasts[1], contrasts[2]), tuple(notes))


def _pair_set(behaviour: Behaviour, records: Records) -> PairSet:
    log_notes(records.notes)
    return assemble(behaviour, records.placed, records.notes)


def _dealt(placed: Sequence[Placed]) -> list[Placed]:
    """Each example with a split. Both sides of a record go to the same one, so that matched prompts stay matched."""
    records: dict[str, list[Placed]] = {}
    for item in placed:
        records.setdefault(item.place, []).append(item)
    dealt: list[Placed] = []
    for sides in ({"positive", "negative"}, {"positive"}, {"negative"}):
        alike = [record for record in records.values() if {item.side for item in record} == sides]
        splits = deal(alike, lambda record: "\n".join(prompt_words(item.example.prompt) for item in record))
        for split, records_of_split in zip(SPLITS, splits, strict=True):
            dealt += [replace(item, split=split) for record in records_of_split for item in record]
    return dealt


def _contrast(placed: Sequence[Placed], context: str = "") -> Contrast:
    sides = [tuple(item.example for item in placed if item.side == side) for side in ("positive", "negative")]
    try:
        return Contrast(*sides)
    except PromptError as error:
        raise type(error)(f"{context}{error.problem}", wanted=error.wanted, fix=error.fix) from error


def _refuse_copies(placed: Sequence[Placed]) -> None:
    seen: dict[tuple[str, str, Split | None], str] = {}
    for item in placed:
        key = (prompt_key(item.example.prompt), item.side, item.split)
        if key in seen:
            raise PromptError(
                f"{item.place} repeats the {item.side} prompt of {seen[key]}: {clip(key[0])}",
                wanted="each prompt once: a copy would count twice",
                fix="Take one of them out.",
            )
        seen[key] = item.place


def _read_toml(path: Path) -> PairSet:
    table = read_table(path)
    behaviour = table.behaviour(default=path.stem)
    lists: dict[Side, list[Any] | None] = {"positive": table.positive, "negative": table.negative}
    if any(texts is not None for texts in lists.values()):
        rows = [(side, number, text) for side, texts in lists.items() for number, text in enumerate(texts or (), 1)]
        placed = place_rows((f"{path.name}, {side} {n}", {"text": text, "label": side}) for side, n, text in rows)
        return assemble(behaviour, placed)
    data = path.parent / (table.file or f"{path.stem}.jsonl")
    if not data.exists():
        raise FileError(
            f"{path} holds no prompts, and {data.name} is not beside it.",
            wanted='two lists, positive and negative, or file = "pairs.jsonl"',
        )
    return _pair_set(behaviour, read_records(data))
