"""Reports of real vLLM, a row for each case: measured one by one, written after each, the other rows left."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from neurodial.files import write_atomic
from neurodial.provenance import now, versions


def measure_rows(
    doc: str | None,
    report: Path,
    cases: Iterable[str],
    measured: Callable[[str, Path], Mapping[str, Any]],
    about: Mapping[str, Any],
) -> None:
    """The command line of a report: `--work FOLDER` keeps what is made, `--part NAME` measures some cases alone.

    Args:
        doc: of the script; its first line describes it.
        report: the file.
        cases: the names of the rows, in the order of the report.
        measured: the row of a case, given a folder of its own.
        about: what the report says before its rows, the command first; it may replace `versions`.
    """
    names = list(cases)
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, help="keep models, what was made of them, and logs in this folder")
    parser.add_argument("--part", choices=names, action="append", help="measure this row only; may be repeated")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.part or names:
            folder = (arguments.work or Path(temporary)) / name
            folder.mkdir(parents=True, exist_ok=True)
            row = measured(name, folder)
            print(json.dumps(row))
            rows = {**(json.loads(report.read_text(encoding="utf-8"))["rows"] if report.exists() else {}), name: row}
            value = {
                "created": now(),
                "versions": versions(),
                **about,
                "rows": {name: rows[name] for name in names if name in rows},
            }
            write_atomic(report, json.dumps(value, indent=1) + "\n", overwrite=True)
