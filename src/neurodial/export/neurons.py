"""Circuits from, and to, a plain table of neurons: what other tools and people write. Torch-free.

A CSV file with a header, JSON lines, or a JSON list of objects: `layer` and `index`, and where wanted `expert`,
`score` (0 where it is missing) and `dose` (1 where it is missing). A `multiplier` m, as the public code of the paper
has it, is the dose `1 - m`. JSON may also be a list of `[layer, index]` pairs, an object of layers with lists of
indices, or one of keys `layer,index` or `layer,position,neuron` with scores. A circuit acts at every token: where a
table names positions, the scores of one neuron are added up. What is not understood is an error.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from neurodial.circuit.circuit import Circuit, Origin, Row
from neurodial.circuit.site import Neuron
from neurodial.errors import CircuitError, CircuitFileError, FileError
from neurodial.export.neuron_tables import TableLine, read_lines
from neurodial.export.recipe import refuse_condition
from neurodial.files import write_atomic
from neurodial.prompts.rows import read_text
from neurodial.provenance import ModelIdentity, now, sha256, versions

COLUMNS = ("layer", "expert", "index", "score", "dose")
_log = logging.getLogger(__name__)


def _number(value: object) -> object:
    """A number as written with blanks, or with a decimal comma."""
    text = value.strip() if isinstance(value, str) else value
    return text.replace(",", ".") if isinstance(text, str) and text.count(",") == 1 else text


_Place = Annotated[int, BeforeValidator(_number), Field(ge=0)]
_Value = Annotated[float, BeforeValidator(_number)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    layer: _Place
    index: _Place
    expert: _Place | None = None
    position: Annotated[int, BeforeValidator(_number)] | None = None
    score: _Value = 0.0
    dose: _Value | None = None
    multiplier: _Value | None = None


@dataclass(frozen=True)
class _Read:
    """A line of a table as a neuron, and where it stands."""

    row: Row
    position: int | None
    place: str


def read_neurons(path: str | Path, *, model: ModelIdentity | None = None) -> Circuit:
    r"""A circuit from a CSV or JSON table of neurons, named after the file.

    What was read otherwise than it stands is logged and kept in the circuit's method, under `notes`.

    Args:
        path: the table.
        model: what it is of; without it the circuit goes onto any model that has the neurons.

    Raises:
        FileError: the file can't be read.
        CircuitFileError: a line is not a neuron, or holds what is not understood; the message names it.
        CircuitError: a neuron stands twice; the message names it and both lines.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "mine.csv"
        >>> _ = file.write_text("layer,index,dose\n3,7,1.5\n1,0,1\n")
        >>> [(row.neuron.layer, row.dose) for row in read_neurons(file)]
        [(1, 1.0), (3, 1.5)]
    """
    source = Path(path)
    try:
        text = read_text(source)
    except FileError as error:
        raise FileError(error.problem, wanted="a CSV or JSON table of neurons", fix=error.fix) from error
    lines, notes = read_lines(text, source)
    if not lines:
        raise CircuitFileError(f"{source} holds no neurons.", wanted="a header with layer and index, then a line each")
    rows, merged = _united([_row(line, source) for line in lines], source)
    notes = [f"{source.name}: {note}" for note in (*notes, *merged)]
    for note in notes:
        _log.warning("%s", note)
    method = {"kind": "table", "file": source.name, "hash": sha256(text)} | ({"notes": notes} if notes else {})
    return Circuit.of(
        rows, name=source.stem, origin=Origin(model=model, method=method, versions=versions(), created=now())
    )


def write_neurons(circuit: Circuit, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a circuit's neurons as a CSV table; where they come from stays in the circuit's own file.

    Raises:
        FileError: the file exists and `overwrite` is false, or it can't be written.
        ExportError: the circuit acts only on some prompts, which a table can't say.

    Example:
        >>> import tempfile
        >>> import neurodial as nd
        >>> from neurodial.circuit.circuit import Row
        >>> circuit = nd.Circuit.of([Row(nd.Neuron(3, None, 7), 0.5, 1.0)])
        >>> nd.write_neurons(circuit, f"{tempfile.mkdtemp()}/mine.csv").read_text().splitlines()
        ['layer,expert,index,score,dose', '3,,7,0.5,1.0']
    """
    refuse_condition(circuit, "a table of neurons holds no condition")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in circuit:
        neuron = row.neuron
        expert = "" if neuron.expert is None else neuron.expert
        writer.writerow([neuron.layer, expert, neuron.index, repr(row.score), repr(row.dose)])
    return write_atomic(path, buffer.getvalue(), overwrite=overwrite)


def _row(line: TableLine, source: Path) -> _Read:
    try:
        read = _Line.model_validate(line.values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "value"
        raise CircuitFileError(
            f"{line.place} of {source} is not a neuron: {where}: {first['msg']}.",
            wanted="layer and index, and where wanted expert, score, and dose or multiplier",
        ) from error
    if read.dose is not None and read.multiplier is not None:
        raise CircuitFileError(
            f"{line.place} of {source} has a dose and a multiplier.", wanted="one of them: the dose is 1 - multiplier"
        )
    dose = read.dose if read.dose is not None else 1.0
    if read.multiplier is not None:
        dose = 1.0 - read.multiplier
    return _Read(Row(Neuron(read.layer, read.expert, read.index), read.score, dose), read.position, line.place)


def _united(lines: Sequence[_Read], source: Path) -> tuple[list[Row], list[str]]:
    """One row for each neuron: the scores of its positions added up. A copy is refused with both its places."""
    seen: dict[tuple[Neuron, int | None], str] = {}
    united: dict[Neuron, _Read] = {}
    for line in lines:
        neuron = line.row.neuron
        key = (neuron, line.position)
        before = united.get(neuron)
        if key in seen or (before is not None and line.position is None):
            raise CircuitError(
                f"{source}: {_shown(neuron, line.position)} stands twice, on {seen.get(key) or before.place} and on "  # type: ignore[union-attr]
                f"{line.place}.",
                wanted="each neuron once",
                fix="Take one of the lines out.",
            )
        seen[key] = line.place
        if before is not None and before.row.dose != line.row.dose:
            raise CircuitFileError(
                f"{source}: {_shown(neuron)} has dose {before.row.dose:g} on {before.place} and {line.row.dose:g} on "
                f"{line.place}.",
                wanted="one dose for each neuron: a circuit acts at every token alike",
            )
        score = line.row.score + (0.0 if before is None else before.row.score)
        united[neuron] = replace(before or line, row=line.row._replace(score=score))
    notes = []
    if any(line.position is not None for line in lines):
        notes.append(
            f"{len(united)} neurons at {len(lines)} positions: a circuit acts at every token, so positions are left "
            "out and the scores of one neuron are added up"
        )
    return [line.row for line in united.values()], notes


def _shown(neuron: Neuron, position: int | None = None) -> str:
    expert = "" if neuron.expert is None else f", expert {neuron.expert}"
    at = "" if position is None else f", position {position}"
    return f"the neuron of layer {neuron.layer}{expert}, index {neuron.index}{at}"
