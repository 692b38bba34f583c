"""Prompt files: JSONL, CSV and TOML to records, and records to a `PairSet`.

A record is one of

- `{"positive": …, "negative": …}`: a pair, each side a string or a list of chat messages;
- `{"text": …, "label": "positive" | "negative"}`: one prompt with its side;
- `{"prompt": …, "positive_answer": …, "negative_answer": …}`: the same prompt answered both ways; the answers are
  then read as part of the chat.

Every record may also hold `split`, `category`, and the two answers. A TOML file holds the behaviour's fields and
either `file = "pairs.jsonl"` or two lists, `positive` and `negative`.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from neurodial.errors import FileError, PromptError
from neurodial.prompts.pairs import SPLITS, Behaviour, Contrast, Example, Message, PairSet, Prompt, Split


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
    label: Literal["positive", "negative"] | None = None
    prompt: _Text | None = None
    positive_answer: str | None = None
    negative_answer: str | None = None
    split: Split | None = None
    category: str = ""


@dataclass(frozen=True)
class Placed:
    """An example with its side, its split (None: to be dealt) and where it stands in the file."""

    example: Example
    side: Literal["positive", "negative"]
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
    if path.suffix == ".csv":
        for number, row in enumerate(csv.DictReader(text.splitlines()), start=2):
            yield f"{path.name}, line {number}", {key: value for key, value in row.items() if key and value}
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{path.name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise PromptError(
                f"{place} is not JSON ({error.msg}, column {error.colno}): {_clip(line)}",
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
    placed = [item for place, row in read_rows(path) for item in _placed(place, row)]
    return assemble(Behaviour(path.stem), placed)


def assemble(behaviour: Behaviour, placed: list[Placed]) -> PairSet:
    """Put examples into their splits; where no record names a split, deal them 40 / 20 / 40."""
    _refuse_copies(placed)
    if all(item.split is None for item in placed):
        sides: dict[str, list[Prompt | Example]] = {"positive": [], "negative": []}
        for item in placed:
            sides[item.side].append(item.example)
        dealt = PairSet.of(sides["positive"], sides["negative"], name=behaviour.name)
        return PairSet(behaviour, dealt.splits)
    without = next((item for item in placed if item.split is None), None)
    if without is not None:
        raise PromptError(
            f"{without.place} names no split, others do.",
            wanted=f'"split" on every line ({", ".join(SPLITS)}) or on none',
        )
    parts = [_contrast(placed, split) for split in SPLITS]
    return PairSet(behaviour, (parts[0], parts[1], parts[2]))


def _contrast(placed: list[Placed], split: Split) -> Contrast | None:
    chosen = [item for item in placed if item.split == split]
    if not chosen:
        return None
    return Contrast(
        tuple(item.example for item in chosen if item.side == "positive"),
        tuple(item.example for item in chosen if item.side == "negative"),
    )


def _placed(place: str, row: dict[str, Any]) -> list[Placed]:
    try:
        record = _Record.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PromptError(f"{place}: {where}: {first['msg']}. The line: {_clip(json.dumps(row))}") from error
    sides = list(_sides(record))
    if not sides:
        raise PromptError(
            f"{place} holds no prompt: {_clip(json.dumps(row, ensure_ascii=False))}",
            wanted='"positive" and "negative", or "text" and "label", or "prompt" with both answers',
        )
    return [Placed(example, side, record.split, place) for side, example in sides]


def _sides(record: _Record) -> Iterator[tuple[Literal["positive", "negative"], Example]]:
    def example(text: _Text) -> Example:
        return Example(_prompt(text), record.category, record.positive_answer, record.negative_answer)

    if record.text is not None and record.label is not None:
        yield record.label, example(record.text)
    elif record.positive is not None or record.negative is not None:
        if record.positive is not None:
            yield "positive", example(record.positive)
        if record.negative is not None:
            yield "negative", example(record.negative)
    elif record.prompt is not None and record.positive_answer and record.negative_answer:
        yield "positive", example(_answered(record.prompt, record.positive_answer))
        yield "negative", example(_answered(record.prompt, record.negative_answer))


def _prompt(text: _Text) -> Prompt:
    return text if isinstance(text, str) else tuple(Message(m.role, m.content) for m in text)


def _answered(text: _Text, answer: str) -> list[_Message]:
    messages = [_Message(role="user", content=text)] if isinstance(text, str) else text
    return [*messages, _Message(role="assistant", content=answer)]


def _refuse_copies(placed: list[Placed]) -> None:
    seen: dict[tuple[Prompt, str], str] = {}
    for item in placed:
        key = (item.example.prompt, item.side)
        if key in seen:
            raise PromptError(
                f"{item.place} repeats the {item.side} prompt of {seen[key]}: {_clip(str(item.example.prompt))}",
                wanted="each prompt once: a copy would count twice",
                fix="Take one of them out.",
            )
        seen[key] = item.place


def _read_toml(path: Path) -> PairSet:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FileError(f"{path} can't be read as TOML: {error}.") from error
    behaviour = behaviour_of(table, default=path.stem, place=path.name)
    lists = {side: table[side] for side in ("positive", "negative") if side in table}
    if lists:
        rows = [(side, number, text) for side, texts in lists.items() for number, text in enumerate(texts, start=1)]
        placed = [p for side, n, t in rows for p in _placed(f"{path.name}, {side} {n}", {"text": t, "label": side})]
        return assemble(behaviour, placed)
    data = path.parent / table.get("file", f"{path.stem}.jsonl")
    if not data.exists():
        raise FileError(
            f"{path} holds no prompts, and {data.name} is not beside it.",
            wanted='two lists, positive and negative, or file = "pairs.jsonl"',
        )
    return assemble(behaviour, [item for place, row in read_rows(data) for item in _placed(place, row)])


def behaviour_of(table: dict[str, Any], *, default: str, place: str) -> Behaviour:
    """The behaviour that a TOML table describes."""
    known = {field.name for field in fields(Behaviour)}
    behaviour = Behaviour(**{"name": default, **{key: value for key, value in table.items() if key in known}})
    if behaviour.margin not in {"openers", "answer"}:
        raise PromptError(f"{place}: margin is {behaviour.margin!r}.", wanted="openers or answer")
    if behaviour.rate_on not in {"positive", "negative"}:
        raise PromptError(f"{place}: rate_on is {behaviour.rate_on!r}.", wanted="positive or negative")
    return behaviour


def _clip(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "…"
