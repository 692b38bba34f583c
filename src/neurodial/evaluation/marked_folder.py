"""A folder that says what it is for, so that a command goes on with its own work and never touches other files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurodial.errors import FileError
from neurodial.files import write_atomic

_VERSION = 2


@dataclass(frozen=True)
class MarkedFolder:
    """A folder with a marker, `KIND.json`.

    Attributes:
        path: where it is.
        kind: what it is for: `demo` or `try`.
    """

    path: Path
    kind: str

    @property
    def values(self) -> dict[str, Any] | None:
        """What the marker says; None where there is none of this kind."""
        try:
            read = json.loads((self.path / f"{self.kind}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return read if isinstance(read, dict) and read.get("format") == self._format else None

    def refuse_foreign(self) -> None:
        """Refuse a folder that is not of this kind, before any work.

        Raises:
            FileError: it is a file, or holds something else.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileError(f"{self.path} is a file.", wanted=f"a folder for the files of `neurodial {self.kind}`")
        if self.path.exists() and any(self.path.iterdir()) and self.values is None:
            raise FileError(
                f"The folder {self.path} holds other files.",
                wanted=f"a new folder, or one that `neurodial {self.kind}` made",
            )

    def mark(self, values: Mapping[str, Any]) -> None:
        """Write the marker, and make the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.record(values), ensure_ascii=False, indent=1) + "\n"
        write_atomic(self.path / f"{self.kind}.json", text, overwrite=True)

    def record(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a marker with these values reads as."""
        plain: dict[str, Any] = json.loads(json.dumps({"format": self._format, "version": _VERSION, **values}))
        return plain

    @property
    def _format(self) -> str:
        return f"neurodial.{self.kind}"
