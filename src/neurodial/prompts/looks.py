"""What a file looks like, for a reader who gave it to the wrong command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurodial.errors import NeurodialError
from neurodial.prompts.cells import fold
from neurodial.prompts.columns import (
    ANSWERS,
    CHATS,
    LABELS,
    NEGATIVE_ANSWERS,
    NEGATIVES,
    POSITIVE_ANSWERS,
    POSITIVES,
    PROMPTS,
    present,
    side_of,
)
from neurodial.prompts.rows import kind_of, read_text, text_rows

_TWO_LISTS = "Give two such lists instead: --positive FILE --negative FILE; or give each line a label."


def looks_like(row: Mapping[str, Any]) -> tuple[str, str | None]:
    """What a row without two sides looks like, in words that follow a noun, and what to do with such a file.

    Example:
        >>> looks_like({"goal": "Pick a lock", "target": "Sure, here is how"})[0]
        '; it looks like AdvBench (goal, target), harmful prompts alone'
    """
    names = set(row)
    if {"goal", "target"} <= names:
        return "; it looks like AdvBench (goal, target), harmful prompts alone", (
            "Give it as one side: --positive FILE, with --negative and a file of harmless prompts; or as --test-set."
        )
    if present(row, CHATS):
        return "; it looks like conversations, without a side", _TWO_LISTS
    if {"layer", "index"} <= names or {"layer", "neuron"} <= names:
        return "; it looks like a table of neurons", "Turn it into a circuit: neurodial convert FILE NAME.circuit.json"
    if present(row, POSITIVE_ANSWERS) or present(row, NEGATIVE_ANSWERS):
        return "; it looks like answers without their prompt, or with one of the two missing", None
    if present(row, (*PROMPTS, "text")):
        return "; it looks like a list of prompts without sides", _TWO_LISTS
    return f"; its columns are {', '.join(sorted(names)) or 'none'}", None


def what_it_is(path: Path) -> str | None:
    r"""A sentence on what a file holds and which command takes it; None where there is nothing to say.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = file.write_text("positive,negative\na,b\n")
        >>> what_it_is(file)
        'It looks like contrasted prompts: --behaviour takes it, and neurodial behaviours checks it.'
    """
    if path.is_dir():
        return _folder(path)
    if path.suffix.casefold() == ".toml":
        return "It looks like a behaviour's table: --behaviour takes it, and neurodial behaviours checks it."
    return own_format(path) or _rows(path)


def _folder(path: Path) -> str:
    inside = {name: path / name for name in ("report.json", "neurodial.json")}
    circuits = sorted(path.glob("*.circuit.json"))
    if circuits:
        return f"It is a folder; {circuits[0]} is a circuit in it."
    if inside["report.json"].exists():
        return f"It is a report: open {path / 'report.html'}, or neurodial compare it with another."
    if inside["neurodial.json"].exists():
        return "It is an export: neurodial verify FOLDER checks it."
    return "It is a folder."


def own_format(path: Path) -> str | None:
    """A sentence on a JSON file that names its own format, or is a table of neurons by name; None of any other."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    kind = value.get("format") if isinstance(value, dict) else None
    if kind == "neurodial.circuit":
        return "It is a circuit: neurodial show FILE shows it, neurodial steer MODEL FILE steers with it."
    if kind == "neurodial.report":
        return "It is a report: open the report.html beside it, or neurodial compare it with another."
    if isinstance(kind, str) and kind.startswith("neurodial."):
        return f"It is a file of the format {kind}."
    if isinstance(value, dict) and value and isinstance(value.get("neurons", value), dict):
        names = value.get("neurons", value)
        if all(set(name) <= set("0123456789, ") for name in names):
            return "It looks like a table of neurons: neurodial convert FILE NAME.circuit.json makes a circuit of it."
    return None


def _rows(path: Path) -> str | None:
    try:
        text = read_text(path)
        if "\0" in text:
            return "It is no text."
        rows = text_rows(text, path.name, path.suffix)
    except NeurodialError:
        return None
    if not rows or (text.lstrip()[0] in "{[" and kind_of(text, path.suffix) != "json"):
        return None
    row = {fold(name): value for name, value in rows[0][1].items()}
    if {"layer", "index"} <= set(row) or {"layer", "neuron"} <= set(row):
        return "It looks like a table of neurons: neurodial convert FILE NAME.circuit.json makes a circuit of it."
    label = present(row, LABELS)
    if label and present(row, ANSWERS) and side_of(row[label]) is None:
        return "It looks like answers that were judged: neurodial detectors check FILE scores detectors against them."
    has_sides = present(row, POSITIVES) or present(row, NEGATIVES) or present(row, POSITIVE_ANSWERS)
    if has_sides or label:
        return "It looks like contrasted prompts: --behaviour takes it, and neurodial behaviours checks it."
    if present(row, (*PROMPTS, "text")):
        return (
            "It looks like a list of prompts: steer --file answers it, --neutral and --universal take it, and two such "
            "lists are a behaviour: --positive FILE --negative FILE."
        )
    return None
