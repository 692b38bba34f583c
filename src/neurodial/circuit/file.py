"""Circuit files: JSON with a version, neurons as columns, written atomically, old versions readable."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from neurodial.circuit.circuit import Circuit, Origin, Row, Stability
from neurodial.circuit.prompt_condition import PromptCondition
from neurodial.circuit.report import DoseReport, report_values, with_today_names
from neurodial.circuit.site import AllNeurons, Neuron
from neurodial.errors import CircuitError, CircuitFileError, FileError
from neurodial.files import near_files, write_atomic
from neurodial.prompts.looks import what_it_is
from neurodial.prompts.pairs import Direction
from neurodial.provenance import ModelIdentity

FORMAT = "neurodial.circuit"
VERSION = 3
"""2: a circuit may have a condition. 3: neurons, and models, may have routed experts. The first that can hold a circuit
is written, so that earlier versions of neurodial read what they can use."""


_Place = Annotated[int, Field(ge=0)]
_Visits = Annotated[list[_Place], Field(min_length=2, max_length=2)]


class _Neurons(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
    layer: list[_Place]
    expert: list[_Place | None]
    index: list[_Place]
    score: list[float]
    dose: list[float]
    visits: list[_Visits | None] | None = None


class _Stability(BaseModel):
    overlaps: Annotated[tuple[float, ...], Field(min_length=1)]
    kept: tuple[float, ...]


class _CircuitFile(BaseModel):
    format: Literal["neurodial.circuit"]
    version: Literal[1, 2, 3]
    name: str
    direction: Direction
    model: ModelIdentity | None
    method: dict[str, Any]
    prompts: dict[str, Any]
    universal: dict[str, Any] | None
    versions: dict[str, str]
    seed: int | None
    created: str
    # Absent in files from before circuits had these.
    report: Annotated[DoseReport | None, BeforeValidator(with_today_names)] = None
    behaviour: str | None = None
    margin: dict[str, Any] | None = None
    engine: dict[str, Any] | None = None
    condition: PromptCondition | None = None
    stability: _Stability | None
    neurons: _Neurons


def circuit_json(circuit: Circuit) -> str:
    """The text of a circuit's file."""
    origin = circuit.origin
    value = {
        "format": FORMAT,
        "version": _version_of(circuit),
        "name": circuit.name,
        "direction": circuit.direction,
        **{field.name: getattr(origin, field.name) for field in dataclasses.fields(Origin) if field.name != "model"},
        "model": None if origin.model is None else dataclasses.asdict(origin.model),
        "stability": None if circuit.stability is None else dataclasses.asdict(circuit.stability),
        "neurons": {
            "layer": [row.neuron.layer for row in circuit],
            "expert": [row.neuron.expert for row in circuit],
            "index": [row.neuron.index for row in circuit],
            "score": [row.score for row in circuit],
            "dose": [row.dose for row in circuit],
        },
    }
    if value["version"] >= 3:
        value["neurons"]["visits"] = [None if row.visits is None else list(row.visits) for row in circuit]
    if origin.model is not None and not origin.model.setup:
        del value["model"]["setup"]
    if origin.model is not None and origin.model.layout is None:
        del value["model"]["layout"]
    if origin.model is not None and not origin.model.experts:
        del value["model"]["experts"]
    if circuit.condition is not None:
        value["condition"] = dataclasses.asdict(circuit.condition)
    value["report"] = None if origin.report is None else report_values(origin.report)
    for name in ("report", "behaviour", "margin", "engine"):
        if value[name] is None:
            del value[name]  # left out where a circuit has none, as in older files
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def _version_of(circuit: Circuit) -> int:
    """The first version that can hold a circuit."""
    model = circuit.origin.model
    routed = any(row.neuron.expert is not None or row.visits is not None for row in circuit)
    if routed or (model is not None and model.experts):
        return 3
    return 1 if circuit.condition is None else 2


def write_circuit(circuit: Circuit, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a circuit's file, all of it or nothing.

    Raises:
        FileError: the file exists and `overwrite` is false, or it can't be written.
    """
    return write_atomic(path, circuit_json(circuit), overwrite=overwrite)


def read_circuit(path: str | Path) -> Circuit:
    """Read a circuit's file.

    Raises:
        FileError: the file can't be read.
        CircuitFileError: it is not a circuit file, is damaged, or is of a later version.
    """
    source = Path(path)
    try:
        value = json.loads(source.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
    except OSError as error:
        fix = what_it_is(source) if source.exists() else near_files(source)
        raise FileError(f"{source} can't be read: {error.strerror}.", wanted="a .circuit.json file", fix=fix) from error
    except (ValueError, RecursionError) as error:
        looks = what_it_is(source) if isinstance(error, json.JSONDecodeError) else None
        if looks is not None:
            raise CircuitFileError(f"{source} is no circuit.", wanted="a .circuit.json file", fix=looks) from error
        raise CircuitFileError(f"{source} is not JSON: {error}.", fix="Was it cut off? Make it again.") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CircuitFileError(
            f"{source} is not a circuit file.", wanted=f'JSON with "format": "{FORMAT}"', fix=what_it_is(source)
        )
    return parse_circuit(value, place=str(source))


def parse_circuit(value: object, *, place: str) -> Circuit:
    """A circuit from the parsed JSON of its file; `place` names it in errors."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CircuitFileError(f"{place} is not a circuit file.", wanted=f'JSON with "format": "{FORMAT}"')
    version = value.get("version")
    if isinstance(version, int) and version > VERSION:
        raise CircuitFileError(
            f"{place} has version {version}.",
            wanted=f"version {VERSION} or before",
            fix="Update neurodial to read it.",
        )
    try:
        file = _CircuitFile.model_validate(value)
    except CircuitError as error:
        raise CircuitFileError(f"{place} is damaged: condition: {error.problem}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise CircuitFileError(f"{place} is damaged: {where}: {first['msg']}.", wanted="an unchanged file") from error
    return _circuit(file, place)


def _circuit(file: _CircuitFile, place: str) -> Circuit:
    columns = file.neurons
    visits_of = columns.visits if columns.visits is not None else [None] * len(columns.layer)
    present = [column for name in _Neurons.model_fields if (column := getattr(columns, name)) is not None]
    if len({len(column) for column in present}) != 1:
        raise CircuitFileError(f"{place} is damaged: the columns of neurons differ in length.")
    rows = [
        Row(Neuron(layer, expert, index), score, dose, None if visits is None else (visits[0], visits[1]))
        for layer, expert, index, score, dose, visits in zip(
            columns.layer, columns.expert, columns.index, columns.score, columns.dose, visits_of, strict=True
        )
    ]
    if file.stability is not None and len(file.stability.kept) != len(rows):
        raise CircuitFileError(f"{place} is damaged: stability.kept is not of one number for each neuron.")
    if file.model is not None:
        everything = AllNeurons.of(file.model)
        outside = next((row.neuron for row in rows if not everything.has(row.neuron)), None)
        if outside is not None:
            raise CircuitFileError(f"{place} is damaged: its model has no {outside}.")
    if file.version < 3 and (file.condition is None) != (file.version == 1):
        raise CircuitFileError(
            f"{place} is damaged: version {file.version} with{'out' if file.condition is None else ''} a condition."
        )
    if (columns.visits is None) != (file.version < 3):
        raise CircuitFileError(
            f"{place} is damaged: version {file.version} with{'out' if columns.visits is None else ''} visits."
        )
    origin = Origin(
        model=file.model,
        method=file.method,
        prompts=file.prompts,
        universal=file.universal,
        versions=file.versions,
        seed=file.seed,
        created=file.created,
        report=file.report,
        behaviour=file.behaviour,
        margin=file.margin,
        engine=file.engine,
    )
    stability = None if file.stability is None else Stability(**file.stability.model_dump())
    try:
        return Circuit(tuple(rows), file.name, file.direction, origin, stability, file.condition)
    except CircuitError as error:
        raise CircuitFileError(f"{place} is damaged: {error.problem}") from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
