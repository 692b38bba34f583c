"""A report folder that survives an interruption: finished rows stay, and only the missing ones are made.

1. `run.json` says what run the folder belongs to: every option, the model, the prompts. Another run is refused.
2. `generations.jsonl`, `verdicts.jsonl` and `measures.jsonl` grow line by line, flushed after each batch.
3. A line that an interruption cut off is dropped when the folder is read again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurodial.errors import FileError
from neurodial.evaluation.row_reading import KINDS, row_of, row_values
from neurodial.evaluation.run_rows import GenerationRow, R, VerdictRow
from neurodial.files import write_atomic
from neurodial.provenance import canonical_json


class Store:
    """The rows of one run, in memory and, where there is a folder, on disk.

    Args:
        folder: where rows are kept; None keeps them in memory only.
        identity: what the run is; the same values give the same run.

    Raises:
        FileError: the folder belongs to another run, or holds something else.

    Example:
        >>> from neurodial.evaluation.run_rows import MeasureRow
        >>> store = Store(None, {"model": "tiny"})
        >>> store.append([MeasureRow("unsteered", "harness:arc_easy")])
        >>> store.rows(MeasureRow)
        [MeasureRow(condition='unsteered', measure='harness:arc_easy')]
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        self._folder = folder
        self._rows: dict[str, list[Any]] = {}
        if folder is not None:
            _claim(folder, identity)

    @classmethod
    def read(cls, folder: Path) -> Store:
        """The rows that a folder holds, whatever run they are of."""
        store = cls(None, {})
        store._rows = {name: read_rows(folder, kind) for name, kind in KINDS.items()}  # its own
        return store

    def rows(self, kind: type[R]) -> list[R]:
        """The finished rows of a kind.

        Raises:
            FileError: a row of the file is not whole.
        """
        if kind.FILE not in self._rows:
            self._rows[kind.FILE] = [] if self._folder is None else read_rows(self._folder, KINDS[kind.FILE])
        return self._rows[kind.FILE]

    def file(self, name: str) -> Path | None:
        """A path beside the rows, or None where they are kept in memory only."""
        return None if self._folder is None else self._folder / name

    def append(self, rows: Iterable[R]) -> None:
        """Add finished rows of one kind and flush them to disk."""
        new = list(rows)
        if not new:
            return
        self.rows(type(new[0])).extend(new)  # a measure's own kind shares its list
        if self._folder is None:
            return
        with (self._folder / f"{new[0].FILE}.jsonl").open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row_values(row), ensure_ascii=False) + "\n" for row in new)
            stream.flush()
            os.fsync(stream.fileno())


def _claim(folder: Path, identity: Mapping[str, Any]) -> None:
    marker = folder / "run.json"
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file.", wanted="the path of a folder")
    if not marker.exists():
        if folder.exists() and any(folder.iterdir()):
            raise FileError(
                f"{folder} holds files, but no run of an evaluation.", wanted="a new or empty folder, or one of its own"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(marker, json.dumps(identity, ensure_ascii=False, indent=1) + "\n")
        return
    try:
        before = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileError(f"{marker} can't be read: {error}.", fix="Choose another folder.") from error
    before, now = _asked(before), _asked(identity)
    if canonical_json(before) != canonical_json(now):
        raise FileError(
            f"{folder} belongs to another run: {', '.join(_differences(before, now))} differ.",
            wanted="the same run, to go on with it",
            fix="Choose another folder, or delete this one.",
        )


def _asked(value: Any) -> Any:
    """Without what is none: an option that came later and is not asked for makes no other run."""
    if isinstance(value, dict):
        return {name: _asked(part) for name, part in value.items() if part is not None}
    return value


def _differences(before: Any, now: Any) -> list[str]:
    if not isinstance(before, dict):
        return ["everything"]
    return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))


@dataclass(frozen=True)
class Answers:
    """What was answered in a run, and what the detectors say of it."""

    generations: tuple[GenerationRow, ...] = ()
    verdicts: tuple[VerdictRow, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Answers:
        """Those of a run's folder; empty where nothing was answered.

        Raises:
            FileError: a row is not whole.
        """
        return cls(tuple(read_rows(folder, GenerationRow)), tuple(read_rows(folder, VerdictRow)))

    def labels(self, detector: str) -> dict[tuple[str, str, int], str]:
        """The last verdict of a detector, by condition, set and index."""
        return {row.place: row.label for row in self.verdicts if row.detector == detector}


def read_rows(folder: Path, kind: type[R]) -> list[R]:
    """The finished rows of a kind in a folder; none where there is no file.

    Whole lines count; a last one without its end was cut off and is taken out of the file.

    Raises:
        FileError: a line is no row of this kind; names the line.
    """
    path = folder / f"{kind.FILE}.jsonl"
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_atomic(path, whole, overwrite=True)
    return [
        _row(kind, line, f"{path}, line {number}") for number, line in enumerate(whole.split("\n"), 1) if line.strip()
    ]


def _row(kind: type[R], line: str, place: str) -> R:
    try:
        return row_of(kind, json.loads(line))
    except ValueError as error:
        raise FileError(f"{place} is no JSON: {error}.", fix="Choose another folder, or take the line out.") from error
    except FileError as error:
        raise FileError(f"{place}: {error.problem}", wanted=error.wanted) from error
