"""A report folder that survives an interruption: finished rows stay, and only the missing ones are made.

1. `run.json` says what run the folder belongs to: every option, the model, the prompts. Another run is refused.
2. `generations.jsonl`, `verdicts.jsonl` and `measures.jsonl` grow line by line, flushed after each batch.
3. A line that an interruption cut off is dropped when the folder is read again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from neurodial.errors import FileError
from neurodial.files import write_atomic
from neurodial.provenance import canonical_json

ResultRow = dict[str, Any]


class Store:
    """The rows of one run, in memory and, where there is a folder, on disk.

    Args:
        folder: where rows are kept; None keeps them in memory only.
        identity: what the run is; the same values give the same run.

    Raises:
        FileError: the folder belongs to another run, or holds something else.

    Example:
        >>> store = Store(None, {"model": "tiny"})
        >>> store.append("measures", [{"arm": "unsteered", "value": 1.0}])
        >>> store.rows("measures")
        [{'arm': 'unsteered', 'value': 1.0}]
    """

    def __init__(self, folder: Path | None, identity: ResultRow) -> None:
        self._folder = folder
        self._rows: dict[str, list[ResultRow]] = {}
        if folder is not None:
            _claim(folder, identity)

    def rows(self, name: str) -> list[ResultRow]:
        """The finished rows of a kind."""
        if name not in self._rows:
            self._rows[name] = [] if self._folder is None else read_rows(self._folder / f"{name}.jsonl")
        return self._rows[name]

    def file(self, name: str) -> Path | None:
        """A path beside the rows, or None where they are kept in memory only."""
        return None if self._folder is None else self._folder / name

    def append(self, name: str, rows: Iterable[ResultRow]) -> None:
        """Add finished rows and flush them to disk."""
        new = list(rows)
        self.rows(name).extend(new)
        if self._folder is None or not new:
            return
        with (self._folder / f"{name}.jsonl").open("a", encoding="utf-8") as stream:
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in new)
            stream.flush()
            os.fsync(stream.fileno())


def _claim(folder: Path, identity: ResultRow) -> None:
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
    if canonical_json(before) != canonical_json(identity):
        raise FileError(
            f"{folder} belongs to another run: {', '.join(_differences(before, identity))} differ.",
            wanted="the same run, to go on with it",
            fix="Choose another folder, or delete this one.",
        )


def _differences(before: Any, now: Any) -> list[str]:
    if not isinstance(before, dict):
        return ["everything"]
    return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))


def read_rows(path: Path) -> list[ResultRow]:
    """The finished rows of a file: whole lines; a last one without its end was cut off and is taken out of the file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_atomic(path, whole, overwrite=True)
    rows: list[ResultRow] = [json.loads(line) for line in whole.splitlines() if line.strip()]
    return rows
