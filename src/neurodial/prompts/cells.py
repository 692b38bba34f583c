"""Tables of text as spreadsheets and people write them: which delimiter and quotes, then a header and cells.

Delimiters are commas, semicolons, tabs or bars, recognised from the header; blanks after one do not belong to the cell;
a line `sep=;` before the header is Excel's. Header names are folded, so that case and blanks do not matter.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from neurodial.errors import PromptError

_DELIMITERS = ",;\t|"
_IGNORED = "\ufeff\u200b\u2060"  # invisible marks at the beginning of many files


@dataclass(frozen=True)
class Line:
    """A line of a table: where it begins, counted from 1, and its cells that are not blank, by column."""

    number: int
    cells: dict[str, str]


def fold(name: str) -> str:
    """A column's name as it is compared.

    Example:
        >>> fold(" Positive answer")
        'positive_answer'
    """
    return re.sub(r"[\s-]+", "_", name.strip().strip(_IGNORED).strip().casefold())


def read_cells(text: str, name: str, known: Collection[str]) -> tuple[Line, ...]:
    r"""The lines of a table with a header.

    Args:
        text: the whole table.
        name: the name used in messages.
        known: folded column names, by which the delimiter is recognised.

    Raises:
        PromptError: it is no such table, or a name is listed twice in its header; names the line.

    Example:
        >>> read_cells("Positive; Negative\na, I say;b\n", "mine.csv", ["positive", "negative"])
        (Line(number=2, cells={'positive': 'a, I say', 'negative': 'b'}),)
    """
    skipped, lines = _preamble(text)
    delimiter, quote = _dialect(lines, known, is_tabbed=name.casefold().endswith(".tsv"))
    start = 1
    try:
        stream = io.StringIO(lines, newline="")
        reader = csv.reader(stream, delimiter=delimiter, quotechar=quote, skipinitialspace=True, strict=True)
        header: list[str] | None = None
        rows = []
        for fields in reader:
            place, start = start + skipped, reader.line_num + 1
            if header is None:
                header = _header(fields, f"{name}, line {place}") if fields else None
            elif any(field.strip() for field in fields):
                rows.append(Line(place, _cells(fields, header, f"{name}, line {place}")))
    except csv.Error as error:
        raise PromptError(
            f"{name}, line {start + skipped} is not CSV: {error}.",
            fix="Is a quote left open, not doubled, or followed by a blank?",
        ) from error
    return tuple(rows)


def is_header(line: str, known: Collection[str]) -> bool:
    """Whether a line is the header of a table: two columns or more, all of them known."""
    names = max((_names(line, delimiter) for delimiter in _DELIMITERS), key=len)
    return len(names) > 1 and all(name in known for name in names)


def _preamble(text: str) -> tuple[int, str]:
    """The number of lines before the header (1 for Excel's `sep=;`, else 0), and the text from the header on."""
    first, _, rest = text.partition("\n")
    match = re.fullmatch(r'"?sep=(.)"?', first.strip("\r"), flags=re.IGNORECASE)
    return (0, text) if match is None else (1, rest)


def _dialect(text: str, known: Collection[str], *, is_tabbed: bool) -> tuple[str, str]:
    lines = list(_first_lines(text))
    header = lines[0] if lines else ""

    def merit(delimiter: str) -> tuple[int, int, bool]:
        names = _names(header, delimiter)
        return sum(name in known for name in names), len(names), is_tabbed and delimiter == "\t"

    delimiter = max(_DELIMITERS, key=merit)
    between = re.compile(rf"'\s*{re.escape(delimiter)}\s*'")
    is_single = any(line[0] == line[-1] == "'" and between.search(line) for line in lines)
    return delimiter, "'" if is_single else '"'


def _first_lines(text: str) -> Iterator[str]:
    """The header and the line after it, blanks around them stripped."""
    lines = (line.strip(" \r\n") for line in io.StringIO(text))
    present = (line for line in lines if line)
    for _, line in zip(range(2), present, strict=False):
        yield line


def _names(line: str, delimiter: str) -> list[str]:
    quote = "'" if line.startswith("'") else '"'
    fields = next(csv.reader([line], delimiter=delimiter, quotechar=quote, skipinitialspace=True), [])
    return [fold(field) for field in fields]


def _header(fields: list[str], place: str) -> list[str]:
    names = [fold(field) for field in fields]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise PromptError(f"{place}: the column {twice!r} is listed twice.", fix="Take one of them out.")
    return names


def _cells(fields: list[str], header: list[str], place: str) -> dict[str, str]:
    if any(field.strip() for field in fields[len(header) :]):
        shown = str(fields)
        raise PromptError(
            f"{place} has {len(fields)} fields: {shown if len(shown) <= 120 else shown[:117] + '…'}",
            wanted=f"{len(header)}, as in the header",
            fix='Put quotes around a prompt with a comma: "like this, for example".',
        )
    return {name: field for name, field in zip(header, fields, strict=False) if field.strip()}
