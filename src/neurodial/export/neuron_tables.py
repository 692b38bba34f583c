"""The lines of a table of neurons, whatever form it has, by the names that circuits use; what is unclear is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurodial.errors import CircuitFileError, PromptError
from neurodial.files import refuse_repeats
from neurodial.prompts.cells import fold, read_cells
from neurodial.prompts.columns import near

_NAMES = {
    "layer": ("layer", "layer_index", "layer_idx", "block"),
    "index": ("index", "neuron", "neuron_index", "neuron_idx", "neuron_id", "idx", "unit"),
    "expert": ("expert", "expert_index", "expert_idx"),
    "position": ("position", "pos", "token_position", "token_index", "ctx_idx"),
    "score": ("score", "attribution", "attr"),
    "dose": ("dose",),
    "multiplier": ("multiplier", "mult"),
}
_OURS = {theirs: ours for ours, names in _NAMES.items() for theirs in names}
_COUNTERS = {"", "id", "rank", "unnamed:_0"}
_STRENGTHS = {
    "alpha", "strength", "scale", "factor", "coefficient", "coeff", "gain", "weight", "steering", "dial",
}  # fmt: skip
_DOING = re.compile(r"amplif|boost|enhanc|excit|suppress|inhibit|ablat|remov|zero", re.IGNORECASE)
_KEY = re.compile(r"\(?\s*(\d+)\s*,\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)?|L(\d+)[._/ ]?N(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d*[.,]?\d+(e[+-]?\d+)?", re.IGNORECASE)
_LAYER = re.compile(r"(?:layer[ _.]?|l)?(\d+)", re.IGNORECASE)
_NEURON = "layer and index, and where wanted expert, position, score, and dose or multiplier"


@dataclass(frozen=True)
class TableLine:
    """A line of a table: where it stands, and its values by the names that circuits use."""

    place: str
    values: dict[str, Any]


def read_lines(text: str, source: Path) -> tuple[list[TableLine], list[str]]:
    """The lines of a table, and notes on what was left out.

    Raises:
        CircuitFileError: the table is malformed, or holds what is not understood; names the line.
    """
    ending = source.suffix.casefold()
    is_json = ending in {".json", ".jsonl", ".ndjson"}
    try:
        lines, notes = _json_lines(text, source) if is_json else (_cell_lines(text, source), [])
    except PromptError as error:
        raise CircuitFileError(error.problem, wanted=error.wanted, fix=error.fix) from error
    named, left_out = _named(lines, source)
    return named, [*notes, *left_out]


def _cell_lines(text: str, source: Path) -> list[TableLine]:
    return [TableLine(f"line {line.number}", dict(line.cells)) for line in read_cells(text, source.name, _OURS)]


def _json_lines(text: str, source: Path) -> tuple[list[TableLine], list[str]]:
    try:
        value = json.loads(text, object_pairs_hook=refuse_repeats)
    except ValueError as error:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(lines) > 1 and all(line.strip().startswith("{") and line.strip().endswith("}") for _, line in lines):
            return [_object(f"line {number}", _parsed(line, number, source), source) for number, line in lines], []
        raise CircuitFileError(f"{source} is not JSON: {error}.") from error
    if isinstance(value, list):
        return [_entry(number, entry, source) for number, entry in enumerate(value, start=1)], []
    if not isinstance(value, dict) or not value or "format" in value:
        raise CircuitFileError(
            f"{source} is not a list of neurons.",
            wanted='[{"layer": 3, "index": 7}, …], {"3": [7]} or {"3,7": 0.5}',
            fix="A circuit's own file needs no conversion.",
        )
    if {"layer", "index"} <= {_OURS.get(fold(name), name) for name in value} and "neurons" not in value:
        return [_object("entry 1", value, source)], []
    return _keyed(value, source)


def _keyed(value: dict[str, Any], source: Path) -> tuple[list[TableLine], list[str]]:
    """An object of neurons, alone or beside other things: by layer, or by keys that name layer, position and neuron."""
    held = next((name for name in value if fold(name) in {"neurons", "layers", "circuit"}), None)
    around = {} if held is None else {name: field for name, field in value.items() if name != held}
    common = {fold(name): field for name, field in around.items() if _OURS.get(fold(name)) in {"dose", "multiplier"}}
    for name in around:
        if fold(name) in _STRENGTHS:
            raise CircuitFileError(
                f"{source}: {name!r} is not understood beside the neurons.", wanted="a dose or a multiplier, or neither"
            )
    inner = value if held is None else value[held]
    if isinstance(inner, list):
        lines = [_entry(number, entry, source) for number, entry in enumerate(inner, start=1)]
    elif isinstance(inner, dict):
        lines = [line for name, content in inner.items() for line in _of_key(name, content, source)]
    else:
        raise CircuitFileError(f"{source} is not a list of neurons: {held} is {inner!r}.", wanted="a list or an object")
    others = [repr(name) for name in around if fold(name) not in common]
    notes = [f"not read: {', '.join(others)}"] if others else []
    return [TableLine(line.place, {**common, **line.values}) for line in lines], notes


def _of_key(name: str, value: Any, source: Path) -> Iterator[TableLine]:
    place = f"key {name!r}"
    match, layer = _KEY.fullmatch(name.strip()), _LAYER.fullmatch(name.strip())
    if layer is not None and isinstance(value, list):
        for number, index in enumerate(value, start=1):
            if isinstance(index, bool) or not isinstance(index, int | float):
                raise CircuitFileError(f"{place}, entry {number} of {source} is {index!r}.", wanted="an index")
            yield TableLine(f"{place}, entry {number}", {"layer": layer[1], "index": index})
        return
    if match is None:
        raise CircuitFileError(
            f"{source} is not a list of neurons: {name!r} names no neuron.",
            wanted="keys such as 3,7 (layer, index), 3,5,7 (layer, position, neuron), or layers with lists of indices",
        )
    first, second, third, layer_name, neuron_name = match.groups()
    where = {"layer": first or layer_name, "index": third or second or neuron_name}
    where |= {"position": second} if third else {}
    if isinstance(value, dict):
        yield TableLine(place, {**where, **value})
    elif value is None or isinstance(value, bool) or not isinstance(value, int | float):
        raise CircuitFileError(f"{place} of {source} has the value {value!r}.", wanted="a score, or an object")
    else:
        yield TableLine(place, {**where, "score": value})


def _entry(number: int, value: Any, source: Path) -> TableLine:
    if isinstance(value, list) and len(value) == 2:
        value = {"layer": value[0], "index": value[1]}
    return _object(f"entry {number}", value, source)


def _object(place: str, value: Any, source: Path) -> TableLine:
    if not isinstance(value, dict):
        shown = str(value)
        raise CircuitFileError(f"{place} of {source} is not a neuron: {shown[:80]}", wanted=_NEURON)
    return TableLine(place, value)


def _parsed(line: str, number: int, source: Path) -> Any:
    try:
        return json.loads(line, object_pairs_hook=refuse_repeats)
    except ValueError as error:
        raise CircuitFileError(f"line {number} of {source} is not JSON: {error}.") from error


def _named(lines: Sequence[TableLine], source: Path) -> tuple[list[TableLine], list[str]]:
    """Lines by our own names. Text that is not understood is noted; a number that is not is an error."""
    named, left_out = [], list[str]()
    for line in lines:
        values: dict[str, Any] = {}
        for name, value in line.values.items():
            theirs = fold(name)
            ours = _OURS.get(theirs)
            if ours is None:
                _refuse_meant(theirs, value, f"{line.place} of {source}")
                left_out += [] if theirs in left_out else [theirs]
            elif ours in values:
                raise CircuitFileError(f"{line.place} of {source} names the {ours} twice.", wanted="one column for it")
            elif value is not None:
                values[ours] = value
        if "role" in line.values and not values.keys() & {"dose", "multiplier"}:
            _refuse_role(line.values["role"], f"{line.place} of {source}")
        named.append(TableLine(line.place, values))
    return named, [f"not read: column {name!r}" for name in left_out]


def _refuse_meant(name: str, value: Any, place: str) -> None:
    """Refuse a column that was meant to be read: one named almost like a known one, or one of numbers."""
    meant = near(name, _OURS)
    if meant is not None:
        raise CircuitFileError(f"{place}: {name!r} is not known. Did you mean {meant!r}?", wanted=_NEURON)
    if _NUMBER.fullmatch(str(value).strip()) and name not in _COUNTERS:
        raise CircuitFileError(
            f"{place}: the column {name!r} holds numbers ({value}) and is not understood.",
            wanted=_NEURON,
            fix="Name it as what it is, or take it out if it does not matter.",
        )


def _refuse_role(role: Any, place: str) -> None:
    if isinstance(role, str) and _DOING.search(role):
        raise CircuitFileError(
            f"{place} has the role {role!r}, which says what is done to the neuron, but not how far.",
            wanted="a dose (1 removes, 0 leaves, negative turns up) or a multiplier (1 - dose)",
        )
