"""Circuits from, and to, a plain table of neurons: what other tools and people write. Torch-free.

A CSV file with a header, or a JSON list of objects: `layer` and `index`, and where wanted `expert`, `score` (0 where
it is missing) and `dose` (1 where it is missing). A JSON list of `[layer, index]` pairs will do, too.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitFileError, FileError
from neurodial.files import write_atomic
from neurodial.provenance import ModelIdentity, now, sha256, versions

COLUMNS = ("layer", "expert", "index", "score", "dose")


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    layer: int = Field(ge=0)
    index: int = Field(ge=0)
    expert: int | None = None
    score: float = 0.0
    dose: float = 1.0


def read_neurons(path: str | Path, *, model: ModelIdentity | None = None) -> Circuit:
    r"""A circuit from a CSV or JSON table of neurons, named after the file.

    Args:
        path: the table.
        model: what it is of; without it the circuit goes onto any model that has the neurons.

    Raises:
        FileError: the file can't be read.
        CircuitFileError: a line is not a neuron; the message names it.
        CircuitError: a neuron stands twice.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = file.write_text("layer,index,dose\n3,7,1.5\n1,0,1\n")
        >>> [(row.neuron.layer, row.dose) for row in read_neurons(file)]
        [(1, 1.0), (3, 1.5)]
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{source} can't be read: {error}.", wanted="a CSV or JSON table of neurons") from error
    lines = _json_lines(text, source) if source.suffix == ".json" else _csv_lines(text)
    rows = [_row(place, value, source) for place, value in lines]
    if not rows:
        raise CircuitFileError(f"{source} holds no neurons.", wanted="a header with layer and index, then a line each")
    origin = Origin(
        model=model,
        method={"kind": "table", "file": source.name, "hash": sha256(text)},
        versions=versions(),
        created=now(),
    )
    return Circuit.of(rows, name=source.stem, origin=origin)


def write_neurons(circuit: Circuit, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a circuit's neurons as a CSV table; where they come from stays in the circuit's own file.

    Raises:
        FileError: the file exists and `overwrite` is false, or it can't be written.

    Example:
        >>> import tempfile
        >>> import neurodial as nd
        >>> from neurodial.circuit.circuit import Row
        >>> circuit = nd.Circuit.of([Row(nd.Neuron(3, None, 7), 0.5, 1.0)])
        >>> nd.write_neurons(circuit, f"{tempfile.mkdtemp()}/mine.csv").read_text().splitlines()
        ['layer,expert,index,score,dose', '3,,7,0.5,1.0']
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in circuit:
        neuron = row.neuron
        expert = "" if neuron.expert is None else neuron.expert
        writer.writerow([neuron.layer, expert, neuron.index, repr(row.score), repr(row.dose)])
    return write_atomic(path, buffer.getvalue(), overwrite=overwrite)


def _csv_lines(text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        yield (
            f"line {number}",
            {str(key).strip().lower(): value for key, value in line.items() if value not in {"", None}},
        )


def _json_lines(text: str, source: Path) -> Iterator[tuple[str, Any]]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise CircuitFileError(f"{source} is not JSON: {error}.") from error
    if not isinstance(values, list):
        raise CircuitFileError(
            f"{source} is not a list of neurons.",
            wanted='[{"layer": 3, "index": 7}, …]',
            fix="A circuit's own file needs no conversion.",
        )
    for number, value in enumerate(values, start=1):
        pair = isinstance(value, list) and len(value) == 2
        yield f"entry {number}", {"layer": value[0], "index": value[1]} if pair else value


def _row(place: str, value: Any, source: Path) -> Row:
    try:
        line = _Line.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "value"
        raise CircuitFileError(
            f"{place} of {source} is not a neuron: {where}: {first['msg']}.",
            wanted="layer and index, and where wanted expert, score and dose",
        ) from error
    return Row(Neuron(line.layer, line.expert, line.index), line.score, line.dose)
