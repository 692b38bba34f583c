"""Files of prompts, of any kind, to rows: JSON lines, a JSON list, a table (CSV, TSV), or one prompt on each line.

Every command that takes a file of prompts, and every field for pasted text, reads it here. A row is its
place in the file, and its values by the folded names of their columns.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from neurodial.errors import FileError, PromptError
from neurodial.files import refuse_repeats
from neurodial.prompts.cells import fold, is_header, read_cells
from neurodial.prompts.columns import KNOWN, NEGATIVES, POSITIVES, PROMPTS, side_of

Row = tuple[str, dict[str, Any]]
JSON_ENDINGS, TABLE_ENDINGS = (".jsonl", ".ndjson", ".json"), (".csv", ".tsv")
ENDINGS = (*JSON_ENDINGS, *TABLE_ENDINGS, ".txt")
"""Endings of the files that hold prompts as rows."""
_STRUCTURED = {".yaml", ".yml", ".xml", ".html", ".htm", ".py", ".ipynb", ".rtf", ".tex"}  # no prompt a line
_MAGIC = {
    b"%PDF": "a PDF; save its text",
    b"PK\x03\x04": "a spreadsheet or an archive; save the sheet as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet; save the sheet as CSV (UTF-8)",
    b"PAR1": "Parquet; write it as JSON lines, for example with pandas: to_json(lines=True, orient='records')",
    b"\x1f\x8b": "compressed; unpack it first",
}


def read_text(path: Path) -> str:
    """The text of a file, UTF-8, or UTF-16 with its mark.

    Raises:
        FileError: it can't be read, or is no text; says what it looks like.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path} can't be read: {error.strerror}.") from error
    kind = next((words for magic, words in _MAGIC.items() if data.startswith(magic)), None)
    if kind is not None:
        looks, _, fix = kind.partition("; ")
        raise FileError(f"{path} is {looks}.", wanted="a file of text", fix=fix[0].upper() + fix[1:] + ".")
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if is_wide else "UTF-8"
        raise FileError(
            f"{path} can't be read: it is not {encoding} (byte {error.start}).", fix="Save it as UTF-8."
        ) from error
    return text if "\n" in text else text.replace("\r", "\n")  # line ends of old Macs


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a file, each with its place in the file.

    The ending decides how the file is read, in upper or lower case; with an unknown ending, the content decides.

    Raises:
        FileError: the file can't be read.
        PromptError: a line is malformed; names the line and its text.
    """
    return text_rows(read_text(path), path.name, path.suffix)


def text_rows(text: str, name: str, ending: str = "") -> tuple[Row, ...]:
    r"""The rows of a text; `name` stands for it in messages. Without a known ending, the content decides its kind.

    Raises:
        FileError: the ending is that of another kind of file.
        PromptError: a line is malformed; names the line and its text.

    Example:
        >>> text_rows("prompt,label\nHi,safe\n", "pasted")
        (('pasted, line 2', {'prompt': 'Hi', 'label': 'safe'}),)
    """
    if ending.casefold() in _STRUCTURED:
        raise FileError(f"{name} ends in {ending!r}.", wanted=f"a file of prompts ({', '.join(ENDINGS)})")
    text = text.removeprefix("\ufeff")
    kind = kind_of(text, ending)
    if kind == "json":
        return tuple((place, _folded(place, row)) for place, row in _json_rows(text, name))
    if kind == "table":
        return tuple((f"{name}, line {line.number}", dict(line.cells)) for line in read_cells(text, name, KNOWN))
    lines = enumerate(text.split("\n"), start=1)  # splitlines would cut at U+2028, which a prompt may hold
    return tuple((f"{name}, line {number}", {"prompt": line.strip()}) for number, line in lines if line.strip())


def pasted_ending(text: str) -> str:
    """The ending of a file that a pasted text could be: JSON lines where it begins like JSON, else by its content."""
    return ".jsonl" if text.lstrip()[:1] in {"{", "["} else ""


def kind_of(text: str, ending: str = "") -> Literal["json", "table", "lines"]:
    """How a text is read: by its file's ending where that is known, else by its content.

    Example:
        >>> kind_of("positive;negative", ".CSV"), kind_of("positive;negative"), kind_of("Hello, you")
        ('table', 'table', 'lines')
    """
    kind = ending.casefold()
    if kind in JSON_ENDINGS or (kind not in TABLE_ENDINGS and _is_json(text)):
        return "json"
    first = next((line for line in text.split("\n") if line.strip()), "")
    return "table" if kind in TABLE_ENDINGS or is_header(first.strip(), KNOWN) else "lines"


def clip(text: str) -> str:
    """The beginning of a text, to show."""
    return text if len(text) <= 120 else text[:117] + "…"


def _is_json(text: str) -> bool:
    """Whether a text without an ending is JSON: a list of texts or objects, or an object on every line."""
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or lines[0].lstrip()[0] not in "[{":
        return False
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return all(line.strip().startswith("{") and line.strip().endswith("}") for line in lines)
    values = whole if isinstance(whole, list) else [whole]
    return bool(values) and all(isinstance(value, dict) for value in values)


def _json_rows(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    values = _entries(text, name) if text.lstrip().startswith("[") else None
    if values is None:
        whole = _whole(text)
        yield from _object_rows(whole, name) if whole is not None else _lines(text, name)
        return
    for place, value in values:
        yield place, {"prompt": value} if isinstance(value, str) else _object(value, place, str(value))


def _lines(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            row = json.loads(line, object_pairs_hook=refuse_repeats)
            json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            reason = str(error)
            if isinstance(error, json.JSONDecodeError):
                reason = f"{error.msg}, column {error.colno}"
            raise PromptError(
                f"{place} is not JSON ({reason}): {clip(line)}",
                wanted='an object on one line, such as {"positive": "…", "negative": "…"}',
            ) from error
        yield place, _object(row, place, line)


def _entries(text: str, name: str) -> list[tuple[str, Any]] | None:
    """The entries of a JSON list, each with its place; None where more text follows it, as in JSON lines.

    Raises:
        PromptError: an entry is not JSON; names it and its line.
    """
    decoder = json.JSONDecoder(object_pairs_hook=refuse_repeats)
    entries: list[tuple[str, Any]] = []
    space = re.compile(r"\s*")
    at = text.index("[") + 1
    while True:
        at = space.match(text, at).end()  # type: ignore[union-attr]  # matches everywhere
        if text[at : at + 1] == "]":
            return entries if not text[at + 1 :].strip() else None
        if entries:
            if text[at : at + 1] != ",":
                raise _broken(text, name, at, "a comma or the list's end is missing")
            at = space.match(text, at + 1).end()  # type: ignore[union-attr]
        place = f"{name}, entry {len(entries) + 1} (line {text.count(chr(10), 0, at) + 1})"
        try:
            value, at = decoder.raw_decode(text, at)
            json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise _broken(text, name, at, reason) from error
        entries.append((place, value))


def _broken(text: str, name: str, at: int, reason: str) -> PromptError:
    line = text.count("\n", 0, at) + 1
    shown = text[text.rfind("\n", 0, at) + 1 :].split("\n", maxsplit=1)[0]
    return PromptError(
        f"{name}, line {line} is not JSON ({reason}): {clip(shown)}",
        wanted="a list of objects or texts, with commas between them, or an object on each line",
    )


def _whole(text: str) -> dict[str, Any] | None:
    """The one object that a text is, where it holds lists of prompts or goes over several lines."""
    try:
        value = json.loads(text, object_pairs_hook=refuse_repeats)
    except (ValueError, RecursionError):
        return None
    is_long = len([line for line in text.split("\n") if line.strip()]) > 1
    return value if isinstance(value, dict) and (is_long or _lists(value)) else None


def _object_rows(whole: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """An object that holds its prompts in lists: one for each side, one for each column, or one of rows."""
    lists = _lists(whole)
    sides = {key: side_of(fold(key)) for key in lists}
    if not lists:
        yield f"{name}, line 1", whole
    elif None not in sides.values():
        for key, values in lists.items():
            for number, value in enumerate(values, start=1):
                yield f"{name}, {key} {number}", {"text": value, "label": sides[key]}
    elif len(lists) == 1:
        ((key, values),) = lists.items()
        for number, value in enumerate(values, start=1):
            place = f"{name}, {key} {number}"
            yield place, {"prompt": value} if isinstance(value, str) else _object(value, place, str(value))
    elif len({len(values) for values in lists.values()}) == 1:
        for number, row in enumerate(zip(*lists.values(), strict=True), start=1):
            yield f"{name}, row {number}", dict(zip(lists, row, strict=True))
    else:
        raise PromptError(
            f"{name} holds {len(lists)} lists: {', '.join(lists)}.",
            wanted="one list of rows, or two lists, positive and negative",
        )


def _lists(whole: dict[str, Any]) -> dict[str, list[Any]]:
    """Lists of texts, chats or rows under an object's keys; none where the object is a row itself."""
    names = {fold(key): key for key in whole}
    record = {*PROMPTS, *POSITIVES, *NEGATIVES, "text"}
    lists = {key: value for key, value in whole.items() if isinstance(value, list) and value and not _is_chat(value)}
    is_row = any(name in record and (key not in lists or len(names) == 1) for name, key in names.items())
    return {} if is_row else lists


def _is_chat(values: list[Any]) -> bool:
    return all(
        isinstance(message, dict) and {fold(key) for key in message} & {"role", "from", "type"} for message in values
    )


def _object(value: Any, place: str, shown: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PromptError(f"{place} is {type(value).__name__}, not an object: {clip(shown)}", wanted="an object")
    return value


def _folded(place: str, row: dict[str, Any]) -> dict[str, Any]:
    folded = {fold(name): value for name, value in row.items()}
    if len(folded) < len(row):
        names = [fold(name) for name in row]
        twice = next(name for name in names if names.count(name) > 1)
        raise PromptError(f"{place}: the field {twice!r} is listed twice.", fix="Take one of them out.")
    return folded
