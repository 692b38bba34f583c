"""Prompt files: JSONL, CSV and TOML to records, and records to a `PairSet`.

A record is one of

- `{"positive": …, "negative": …}`: a pair, each side a string or a list of chat messages;
- `{"text": …, "label": "positive" | "negative"}`: one prompt with its side;
- `{"prompt": …, "positive_answer": …, "negative_answer": …}`: the same prompt answered both ways; the answers are
  then read as part of the chat.

Every record may also hold `split`, `category`, and the two answers. A TOML file holds the behaviour's fields and
either `file = "pairs.jsonl"` or two lists, `positive` and `negative`. Where no record names a split, records are
dealt to the splits; both sides of a record go to the same one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from neurodial.errors import FileError, PromptError
from neurodial.prompts.pairs import SPLITS, Behaviour, Contrast, PairSet, Split, deal
from neurodial.prompts.prompt import Example, Message, Prompt, prompt_key
from neurodial.prompts.table import read_table

Side = Literal["positive", "negative"]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: str


_Text = str | list[_Message]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore")
    positive: _Text | None = None
    negative: _Text | None = None
    text: _Text | None = None
    label: Side | None = None
    prompt: _Text | None = None
    positive_answer: str | None = None
    negative_answer: str | None = None
    split: Split | None = None
    category: str = ""


@dataclass(frozen=True)
class Placed:
    """An example with its side, its split (None: to be dealt) and where it stands in the file."""

    example: Example
    side: Side
    split: Split | None
    place: str


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a JSONL or CSV file, each with the place it stands at.

    Raises:
        FileError: the file can't be read.
        PromptError: a line is not JSON; names the line and its text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8 (byte {error.start}).", fix="Save it as UTF-8.") from error
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror}.") from error
    yield from _csv_rows(path, text) if path.suffix == ".csv" else _json_rows(path, text)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    place = f"{path.name}, line 1"
    try:
        columns = len(reader.fieldnames or ())
        place = f"{path.name}, line {reader.line_num + 1}"
        for row in reader:
            if None in row:
                raise PromptError(
                    f"{place} has {columns + len(row[None])} fields: {_clip(str(list(row.values())))}",
                    wanted=f"{columns}, as in the header",
                    fix='Put quotes around a prompt with a comma: "like this, for example".',
                )
            yield place, {key: value for key, value in row.items() if key and value}
            place = f"{path.name}, line {reader.line_num + 1}"
    except csv.Error as error:
        raise PromptError(f"{place} is not CSV: {error}.", fix="Is a quote left open, or not doubled?") from error


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines would cut at U+2028, which JSON may hold
        if not line.strip():
            continue
        place = f"{path.name}, line {number}"
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            reason = str(error)
            if isinstance(error, json.JSONDecodeError):
                reason = f"{error.msg}, column {error.colno}"
            raise PromptError(
                f"{place} is not JSON ({reason}): {_clip(line)}",
                wanted='an object on one line, such as {"positive": "…", "negative": "…"}',
            ) from error
        if not isinstance(row, dict):
            raise PromptError(f"{place} is {type(row).__name__}, not an object: {_clip(line)}", wanted="an object")
        yield place, row


def read_pair_file(path: Path) -> PairSet:
    """A `PairSet` from a JSONL, CSV or TOML file.

    Raises:
        FileError: the file can't be read, or has an ending that is not known.
        PromptError: a record is malformed, a prompt stands twice, a side is empty.
        OverlapError: a prompt stands in two splits.
    """
    if path.suffix not in {".jsonl", ".csv", ".toml"}:
        raise FileError(f"{path} ends in {path.suffix!r}.", wanted="a .jsonl, .csv or .toml file")
    if path.suffix == ".toml":
        return _read_toml(path)
    return assemble(Behaviour(path.stem), _records(path))


def assemble(behaviour: Behaviour, placed: list[Placed]) -> PairSet:
    """Put examples into their splits; where no record names a split, deal the records 40 / 20 / 40."""
    _refuse_copies(placed)
    is_dealt = all(item.split is None for item in placed)
    if is_dealt:
        _contrast(placed)  # refuses, before prompts are spread, what is wrong with them together
        placed = _dealt(placed)
    without = next((item for item in placed if item.split is None), None)
    if without is not None:
        raise PromptError(
            f"{without.place} names no split, others do.",
            wanted=f'"split" on every line ({", ".join(SPLITS)}) or on none',
        )
    parts: list[Contrast | None] = []
    for split in SPLITS:
        chosen = [item for item in placed if item.split == split]
        too_few = not chosen or (is_dealt and len({item.side for item in chosen}) < 2)
        parts.append(None if too_few else _contrast(chosen, f"In the {split} split: "))
    return PairSet(behaviour, (parts[0], parts[1], parts[2]))


def _dealt(placed: list[Placed]) -> list[Placed]:
    """Each example with a split. Both sides of a record go to the same one, so that matched prompts stay matched."""
    records: dict[str, list[Placed]] = {}
    for item in placed:
        records.setdefault(item.place, []).append(item)
    found: list[Placed] = []
    for sides in ({"positive", "negative"}, {"positive"}, {"negative"}):
        alike = [record for record in records.values() if {item.side for item in record} == sides]
        parts = deal(alike, lambda record: "\n".join(prompt_key(item.example.prompt) for item in record))
        for split, part in zip(SPLITS, parts, strict=True):
            found += [replace(item, split=split) for record in part for item in record]
    return found


def _contrast(placed: list[Placed], context: str = "") -> Contrast:
    sides = [tuple(item.example for item in placed if item.side == side) for side in ("positive", "negative")]
    try:
        return Contrast(*sides)
    except PromptError as error:
        raise type(error)(f"{context}{error.problem}", wanted=error.wanted, fix=error.fix) from error


def _records(path: Path) -> list[Placed]:
    placed = [item for place, row in read_rows(path) for item in _placed(place, row)]
    if not placed:
        raise PromptError(f"{path} holds no prompts.", wanted='lines such as {"positive": "…", "negative": "…"}')
    return placed


def _placed(place: str, row: dict[str, Any]) -> list[Placed]:
    try:
        record = _Record.model_validate(row)
    except ValidationError as error:
        deepest = max(error.errors(), key=lambda found: len(found["loc"]))  # of a text or a chat, what it looks like
        fields = {*_Record.model_fields, *_Message.model_fields}
        where = ".".join(str(part) for part in deepest["loc"] if isinstance(part, int) or part in fields)
        raise PromptError(f"{place}: {where}: {deepest['msg']}. The line: {_shown(row)}") from error
    sides = list(_sides(record))
    if not sides:
        raise PromptError(
            f"{place} holds no prompt: {_shown(row)}",
            wanted='"positive" and "negative", or "text" and "label", or "prompt" with both answers',
        )
    blank = next((side for side, example in sides if not prompt_key(example.prompt)), None)
    if blank is not None:
        raise PromptError(f"{place}: the {blank} prompt is blank: {_shown(row)}", fix="Fill it, or take the line out.")
    return [Placed(example, side, record.split, place) for side, example in sides]


def _sides(record: _Record) -> Iterator[tuple[Side, Example]]:
    def example(text: _Text, counterpart: _Text | None = None) -> Example:
        other = None if counterpart is None else _prompt(counterpart)
        return Example(_prompt(text), record.category, record.positive_answer, record.negative_answer, other)

    if record.text is not None and record.label is not None:
        yield record.label, example(record.text)
    elif record.positive is not None or record.negative is not None:
        if record.positive is not None:
            yield "positive", example(record.positive, record.negative)
        if record.negative is not None:
            yield "negative", example(record.negative, record.positive)
    elif record.prompt is not None and record.positive_answer and record.negative_answer:
        yield "positive", example(_answered(record.prompt, record.positive_answer))
        yield "negative", example(_answered(record.prompt, record.negative_answer))


def _prompt(text: _Text) -> Prompt:
    return text if isinstance(text, str) else tuple(Message(m.role, m.content) for m in text)


def _answered(text: _Text, answer: str) -> list[_Message]:
    messages = [_Message(role="user", content=text)] if isinstance(text, str) else text
    return [*messages, _Message(role="assistant", content=answer)]


def _refuse_copies(placed: list[Placed]) -> None:
    seen: dict[tuple[str, str, Split | None], str] = {}
    for item in placed:
        key = (prompt_key(item.example.prompt), item.side, item.split)
        if key in seen:
            raise PromptError(
                f"{item.place} repeats the {item.side} prompt of {seen[key]}: {_clip(key[0])}",
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
        placed = [p for side, n, t in rows for p in _placed(f"{path.name}, {side} {n}", {"text": t, "label": side})]
        return assemble(behaviour, placed)
    data = path.parent / (table.file or f"{path.stem}.jsonl")
    if not data.exists():
        raise FileError(
            f"{path} holds no prompts, and {data.name} is not beside it.",
            wanted='two lists, positive and negative, or file = "pairs.jsonl"',
        )
    return assemble(behaviour, _records(data))


def _shown(row: dict[str, Any]) -> str:
    return _clip(json.dumps(row, ensure_ascii=False, default=str))


def _clip(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "…"
