"""Rows as they stand in files: written by their names there, checked when a file is read.

Files name a condition `arm`, as they always did; code says condition. A key that no row knows is an error: such a file
is of a later version, or was changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from neurodial.errors import FileError
from neurodial.evaluation.run_rows import (
    ControlRow,
    GenerationRow,
    MarginRow,
    MeasureRow,
    MmluRow,
    MmluSetRow,
    PerTextRow,
    QuestionsRow,
    R,
    SpeedRow,
    StoredRow,
    TaskRow,
    TuningRow,
    VerdictRow,
)

_FILE_NAMES = {"condition": "arm"}
"""What a field is called in files, where that is another name."""


MEASURES: dict[str, type[MeasureRow]] = {
    "kl": PerTextRow,
    "perplexity": PerTextRow,
    "surprise": PerTextRow,
    "margin": MarginRow,
    "questions": QuestionsRow,
    "speed": SpeedRow,
    "control": ControlRow,
    "mmlu": MmluRow,
    "mmlu:set": MmluSetRow,
    "task": TaskRow,
    "harness": MeasureRow,
}
"""The kind of row of each measure, by its name, or by its name up to a colon."""


KINDS: dict[str, Any] = {kind.FILE: kind for kind in (GenerationRow, VerdictRow, TuningRow, MeasureRow)}
"""The kind of row of each file."""


_ADAPTERS: dict[str, Any] = {}
"""What checks each kind of row: costly to make, cheap to use."""


def row_values(row: StoredRow) -> dict[str, Any]:
    """A row as it stands in a file.

    Example:
        >>> row_values(MeasureRow("unsteered", "harness:arc_easy"))
        {'arm': 'unsteered', 'measure': 'harness:arc_easy'}
    """
    return {_FILE_NAMES.get(f.name, f.name): getattr(row, f.name) for f in dataclasses.fields(row)}


def row_of(kind: type[R], values: Any) -> R:
    """A row of a file, checked.

    Raises:
        FileError: a field is missing, unknown or of another type; names it.

    Example:
        >>> row_of(MeasureRow, {"arm": "mine @ 1", "measure": "kl", "values": [0.5], "tokens": [8]})
        PerTextRow(condition='mine @ 1', measure='kl', values=(0.5,), tokens=(8,))
    """
    from pydantic import ValidationError

    if not isinstance(values, Mapping):
        raise FileError("A row is no JSON object.", wanted=f"a row of {kind.FILE}.jsonl")
    given = {{v: k for k, v in _FILE_NAMES.items()}.get(name, name): value for name, value in values.items()}
    chosen: type[Any] = kind
    if kind is MeasureRow:
        name = str(given.get("measure", ""))
        name = name if name in MEASURES else name.partition(":")[0]
        if name not in MEASURES:
            raise FileError(f"A row of measures.jsonl is of {name!r}.", wanted=f"one of {', '.join(MEASURES)}")
        chosen = MEASURES[name]
    try:
        row: R = _adapter(chosen).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise FileError(
            f"A row of {kind.FILE}.jsonl is not whole: {place}: {first['msg']}.",
            wanted="a file as an evaluation of this version or an earlier one wrote it",
        ) from error
    return row


def _adapter(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter

    if kind.__name__ not in _ADAPTERS:
        _ADAPTERS[kind.__name__] = TypeAdapter(kind)
    return _ADAPTERS[kind.__name__]
