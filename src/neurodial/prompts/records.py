"""Rows of a prompt file to examples, each on its side and with its place, and notes on what was read differently.

A record is one of

- `{"positive": …, "negative": …}`: a pair, each side a string or a list of chat messages;
- `{"text": …, "label": "positive" | "negative"}`: one prompt with its side;
- `{"prompt": …, "positive_answer": …, "negative_answer": …}`: the same prompt answered both ways; the answers are
  then read as part of the chat.

Every record may also hold `split`, `category`, and the two answers. What other tools write is turned into these
(`foreign.py`); names of columns are folded (`cells.py`), and a column that is not read is noted (`columns.py`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from neurodial.errors import PromptError
from neurodial.prompts.columns import KNOWN, LABELS, Side, present, unread_columns
from neurodial.prompts.foreign import UnclearError, as_record, label_words, with_answer
from neurodial.prompts.looks import looks_like
from neurodial.prompts.pairs import Split
from neurodial.prompts.prompt import Example, Message, Prompt, prompt_words
from neurodial.prompts.rows import Row, clip, kind_of, read_text, text_rows

_log = logging.getLogger(__name__)
_QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"), ("«", "»"), ("‘", "’"), ("`", "`"))


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


class _Prompt(BaseModel):
    prompt: _Text


@dataclass(frozen=True)
class Placed:
    """An example with its side, its split (None: to be dealt) and its place in the file."""

    example: Example
    side: Side
    split: Split | None
    place: str


@dataclass(frozen=True)
class Records:
    """The examples of a file, and notes on what was read differently from how it is written, or not read."""

    placed: tuple[Placed, ...]
    notes: tuple[str, ...] = ()


def read_records(path: Path) -> Records:
    """The examples of a file of contrasted prompts.

    Raises:
        FileError: the file can't be read.
        PromptError: a record is malformed, a column is named almost like a known one, or there are none.
    """
    return text_records(read_text(path), path.name, path.suffix)


def text_records(text: str, name: str, ending: str = "") -> Records:
    r"""The examples of a text of contrasted prompts; `name` stands for it in messages.

    Raises:
        PromptError: a record is malformed, a column is named almost like a known one, or there are none.

    Example:
        >>> text_records("positive,negative\nRob a bank,Open an account\n", "pasted").placed[0].example.prompt
        'Rob a bank'
    """
    return row_records(name, *stripped(text_rows(text, name, ending), is_table=kind_of(text, ending) == "table"))


def row_records(name: str, rows: Sequence[Row], notes: list[str]) -> Records:
    """The examples of rows of contrasted prompts, with further notes on them.

    Raises:
        PromptError: as of `text_records`.
    """
    if not rows:
        raise PromptError(f"{name} holds no prompts.", wanted='lines such as {"positive": "…", "negative": "…"}')
    records, used = [], set[str]()
    for place, row in rows:
        record, columns = _fields(place, row)
        records.append((place, row, record))
        used |= columns
    notes = [*notes, *unread_columns(rows, used)]
    columns = frozenset(name for _, row in rows for name in row)
    placed = tuple(item for place, row, record in records for item in _placed(place, row, record, columns))
    notes += [*_foreign_notes(rows, used), *_half_notes(placed)]
    refuse_quotes(name, [item.example.prompt for item in placed])
    return Records(placed, tuple(f"{name}: {note}" for note in notes))


def place_rows(rows: Iterable[Row]) -> list[Placed]:
    """Examples of rows in our own fields."""
    return [item for place, row in rows for item in _placed(place, row, _fields(place, row)[0])]


def stripped(rows: Sequence[Row], *, is_table: bool) -> tuple[Sequence[Row], list[str]]:
    """Rows of a table with the blanks at the ends of cells taken off, and a note if there were any."""
    if not is_table:
        return rows, []
    bare = [(place, {k: v.strip() if isinstance(v, str) else v for k, v in row.items()}) for place, row in rows]
    changed = sum(before != after for before, after in zip(rows, bare, strict=True))
    return bare, [f"blanks at the ends of cells left out on {_lines(changed)}"] if changed else []


def refuse_quotes(name: str, prompts: Sequence[Prompt]) -> None:
    """Refuse prompts that are all quoted: the quotes belong to the file, not to the prompts.

    Raises:
        PromptError: they do.
    """
    texts = [prompt.strip() for prompt in prompts if isinstance(prompt, str)]
    for opening, closing in _QUOTES:
        if len(texts) > 1 and all(len(t) > 1 and t[0] == opening and t[-1] == closing for t in texts):
            raise PromptError(
                f"Every prompt of {name} is between {opening} and {closing}, such as {clip(texts[0])}",
                wanted='prompts without the quotes, or CSV, where "straight double quotes" are no part of a cell',
            )


def chat_of(place: str, row: dict[str, Any], value: Any) -> Prompt:
    """A prompt's value, a text or messages, as a prompt.

    Raises:
        PromptError: it is neither, or blank.
    """
    if isinstance(value, list) and value and not all(isinstance(message, dict) for message in value):
        value = None
    try:
        prompt = _prompt(_Prompt.model_validate({"prompt": value}).prompt)
    except ValidationError as error:
        raise PromptError(
            f"{place} holds no prompt: {_shown(row)}", wanted='{"prompt": "…"}, a text or a list of messages'
        ) from error
    if not prompt_words(prompt):
        raise PromptError(f"{place} holds no prompt: {_shown(row)}", wanted='{"prompt": "…"}, not blank')
    return prompt


def log_notes(notes: Iterable[str]) -> None:
    """Log notes as warnings."""
    for note in notes:
        _log.warning("%s", note)


def _fields(place: str, row: dict[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    try:
        return as_record(row)
    except UnclearError as error:
        raise PromptError(f"{place}: {error}. The line: {_shown(row)}") from error


def _placed(
    place: str, row: dict[str, Any], fields: dict[str, Any], columns: frozenset[str] = frozenset()
) -> list[Placed]:
    try:
        record = _Record.model_validate(fields)
    except ValidationError as error:
        deepest = max(
            error.errors(), key=lambda problem: len(problem["loc"])
        )  # of a text or a chat, what it looks like
        names = {*_Record.model_fields, *_Message.model_fields}
        where = ".".join(str(key) for key in deepest["loc"] if isinstance(key, int) or key in names)
        raise PromptError(f"{place}: {where}: {deepest['msg']}. The line: {_shown(row)}") from error
    sides = list(_sides(record))
    if not sides:
        looks, fix = looks_like(row)
        empty = ", ".join(sorted(((columns - row.keys()) & KNOWN) - {"split", "category"}))
        if empty:
            raise PromptError(
                f"{place} holds no prompt with a side: nothing stands under {empty}. The line: {_shown(row)}",
                wanted="every cell that the other lines have",
                fix="Fill the empty cell, or take the line out.",
            )
        raise PromptError(
            f"{place} holds no prompt with a side{looks}: {_shown(row)}",
            wanted='"positive" and "negative", or "text" and "label", or "prompt" with both answers',
            fix=fix,
        )
    blank = next((side for side, example in sides if not prompt_words(example.prompt)), None)
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
    plain = text if isinstance(text, str) else [message.model_dump() for message in text]
    return [_Message(**message) for message in with_answer(plain, answer)]


def _foreign_notes(rows: Sequence[Row], used: set[str]) -> list[str]:
    labels = [row[name] for _, row in rows if (name := present(row, LABELS)) is not None and name in used]
    notes = label_words(labels)
    if {"chosen", "rejected"} <= used:
        notes.append("read as answered both ways: chosen shows the behaviour, rejected does not")
    return notes


def _half_notes(placed: Sequence[Placed]) -> list[str]:
    """A note on lines with one side where others have both: a cell that was left empty."""
    both = {item.place for item in placed if item.example.counterpart is not None}
    alone = sorted({item.place for item in placed} - both, key=[item.place for item in placed].index)
    is_paired = both and any(item.example.counterpart is None for item in placed)
    if not is_paired:
        return []
    what = f"one side only on {_lines(len(alone))}, such as {alone[0]}; others have both"
    return [f"{what}. An empty cell? Fill it, or take the line out; as it is, its prompt counts without a pair"]


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


def _shown(row: dict[str, Any]) -> str:
    return clip(json.dumps(row, ensure_ascii=False, default=str))
