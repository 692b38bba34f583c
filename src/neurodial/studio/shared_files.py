"""Files that go from one studio to another: a circuit, a conversation, a run; written here, and opened here again."""

from __future__ import annotations

import json
from typing import Any

from neurodial.circuit.file import FORMAT as CIRCUIT_FORMAT
from neurodial.circuit.file import parse_circuit
from neurodial.errors import FileError
from neurodial.evaluation.results import FORMAT as REPORT_FORMAT
from neurodial.evaluation.results import Report, parse_report
from neurodial.files import new_folder
from neurodial.intervention.scale import check_fits
from neurodial.studio import conversations
from neurodial.studio.requests import OpenRequest
from neurodial.studio.studio_state import StudioState
from neurodial.studio.tasks_measure import PARTS, report_parts, write_part

RUN_FORMAT = "neurodial.run"
RUN_VERSION = 1
_WANTED = "a file that the studio wrote (a conversation or a run), a .circuit.json file, or a report.json"


def run_file(studio: StudioState, name: str) -> dict[str, Any]:
    """A run as one value: its name and its reports; no prompt and no answer is in it.

    Raises:
        UnknownNameError: there is none.
    """
    folder = studio.collection.report(name)
    parts = {
        part: json.loads((folder / PARTS[part] / "report.json").read_text(encoding="utf-8"))
        for part in report_parts(folder)
    }
    called = studio.collection.report_names().get(name, name)
    return {"format": RUN_FORMAT, "version": RUN_VERSION, "name": called, "parts": parts}


def open_file(studio: StudioState, asked: OpenRequest) -> dict[str, Any]:
    """Check a file and keep what it holds; gives what it was, its id here, and notes.

    Raises:
        FileError: it is nothing that the studio knows, or damaged.
        CircuitFileError: it is a damaged circuit.
        ModelMismatchError: it is a circuit of another model.
    """
    place = asked.name or "the file"
    try:
        value = json.loads(asked.text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        fix = "Was it cut off? Ask for it again."
        raise FileError(f"{place} is not JSON: {error}.", wanted=_WANTED, fix=fix) from error
    kind = value.get("format") if isinstance(value, dict) else None
    if kind == CIRCUIT_FORMAT:
        circuit = parse_circuit(value, place=place)
        check_fits(circuit, studio.subject, force=studio.force)
        return {"kind": "circuit", "id": conversations.keep_circuit(studio, circuit), "notes": []}
    if kind == conversations.FORMAT:
        name, notes = conversations.open_conversation(studio, value, place)
        return {"kind": "conversation", "id": name, "notes": notes}
    if kind == REPORT_FORMAT:
        value = {"format": RUN_FORMAT, "version": RUN_VERSION, "name": place, "parts": {"report": value}}
    elif kind != RUN_FORMAT:
        raise FileError(f"{place} is no file of neurodial.", wanted=_WANTED)
    return {"kind": "run", "id": _open_run(studio, value, place), "notes": []}


def _open_run(studio: StudioState, value: dict[str, Any], place: str) -> str:
    reports = _run_reports(value, place)
    name = str(value.get("name") or place)[:80]
    report, folder = studio.collection.new_report(f"opened-{name}")
    with new_folder(folder, mark="run.json") as place_of_new:
        for part, read in reports.items():
            write_part(read, place_of_new, part)
    studio.collection.name_report(report, name)
    return report


def _run_reports(value: dict[str, Any], place: str) -> dict[str, Report]:
    """The reports of a run, each whole."""
    version, parts = value.get("version"), value.get("parts")
    if version != RUN_VERSION:
        raise FileError(f"{place} is a run of version {version}.", wanted=f"version {RUN_VERSION}")
    if not isinstance(parts, dict) or not parts or not parts.keys() <= PARTS.keys():
        raise FileError(f"{place} is no whole run.", wanted=f"reports by the names {', '.join(PARTS)}")
    return {part: parse_report(report, place=f"{place}, {part}") for part, report in parts.items()}


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
