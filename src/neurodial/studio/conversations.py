"""Conversations as files: named, kept, shared, and opened again.

A file holds what was said, the settings, and every circuit whole, so that it can be gone on with elsewhere on the same
model. What comes from a file is checked like a request of the page; nothing in it is a path.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.file import circuit_json, parse_circuit
from neurodial.errors import FileError, NeurodialError
from neurodial.files import write_atomic
from neurodial.intervention.scale import check_fits
from neurodial.provenance import now
from neurodial.studio.requests import ChatSettings, ConversationRequest, Name, SavedAnswers, Turned
from neurodial.studio.studio_state import StudioState

FORMAT = "neurodial.conversation"
VERSION = 1


class _Dialled(Turned):
    """A circuit at its dial, with the circuit itself as its file has it."""

    circuit: dict[str, Any]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    format: Literal["neurodial.conversation"]
    version: Literal[1]
    name: Name
    created: str = Field(max_length=80)
    model: str = Field(max_length=1000)
    settings: ChatSettings
    circuits: list[_Dialled] = Field(max_length=8)
    turns: list[SavedAnswers] = Field(max_length=200)


def save_conversation(studio: StudioState, asked: ConversationRequest) -> str:
    """Keep a conversation with its circuits; gives its id.

    Raises:
        UnknownNameError: a circuit, or the conversation to replace, is not there.
    """
    circuits = []
    for turned in asked.circuits:
        whole = json.loads(circuit_json(studio.collection.circuit(turned.id)))
        circuits.append(_Dialled(**turned.model_dump(), circuit=whole))
    path = studio.collection.conversation(asked.id) if asked.id else studio.collection.new_conversation(asked.name)
    created = _parsed(path.read_text(encoding="utf-8"), path.name).created if asked.id else now()
    file = _File(
        format="neurodial.conversation",
        version=1,
        name=asked.name,
        created=created,
        model=studio.subject.label,
        settings=asked.settings,
        circuits=circuits,
        turns=asked.turns,
    )
    _write(studio, path.name, file)
    return path.name.split(".")[0]


def conversation_view(studio: StudioState, name: str) -> dict[str, Any]:
    """A conversation as the page shows it: the circuits by their ids alone.

    Raises:
        UnknownNameError: there is none.
        FileError: its file is damaged.
    """
    path = studio.collection.conversation(name)
    file = _parsed(path.read_text(encoding="utf-8"), path.name)
    view = file.model_dump(exclude={"format", "version", "circuits"})
    here = {stored.id for stored in studio.collection.circuits()}
    circuits = [part.model_dump(exclude={"circuit"}) for part in file.circuits if part.id in here]
    return {"id": name, **view, "circuits": circuits}


def conversations_view(studio: StudioState) -> list[dict[str, Any]]:
    """Every kept conversation that can be read: id, name, when it was begun, on which model, how many prompts."""
    listed = []
    for name in studio.collection.conversations():
        try:
            view = conversation_view(studio, name)
        except FileError:
            continue  # a damaged file is no reason to show nothing
        listed.append({key: view[key] for key in ("id", "name", "created", "model")} | {"turns": len(view["turns"])})
    return listed


def open_conversation(studio: StudioState, value: object, place: str) -> tuple[str, list[str]]:
    """Keep a conversation that came as a file; gives its id, and what the page should say about it.

    Its circuits are kept too, where the very same are not there. One that was made on another model is left out.

    Raises:
        FileError: it is no whole conversation.
    """
    file = _validated(value, place)
    notes: list[str] = []
    circuits: list[_Dialled] = []
    if file.model != studio.subject.label:
        notes.append(f"It was held with {file.model}; answers from here on are those of {studio.subject.label}.")
    for part in file.circuits:
        try:
            circuit = parse_circuit(part.circuit, place=f"the circuit {part.id} in {place}")
            check_fits(circuit, studio.subject, force=studio.force)
        except NeurodialError as error:
            notes.append(f"Left out: {error.problem}")
            continue
        circuits.append(part.model_copy(update={"id": keep_circuit(studio, circuit)}))
    path = studio.collection.new_conversation(file.name)
    _write(studio, path.name, file.model_copy(update={"circuits": circuits}))
    return path.name.split(".")[0], notes


def keep_circuit(studio: StudioState, circuit: Circuit) -> str:
    """The id of this very circuit: of the one that is there, else of a new one."""
    for stored in studio.collection.circuits():
        if (stored.circuit.rows, stored.circuit.direction) == (circuit.rows, circuit.direction):
            return stored.id
    return studio.collection.save_circuit(circuit)


def _parsed(text: str, place: str) -> _File:
    try:
        return _validated(json.loads(text), place)
    except ValueError as error:
        raise FileError(f"{place} is not JSON: {error}.", fix="Was it changed by hand? Take it out.") from error


def _validated(value: object, place: str) -> _File:
    if isinstance(value, dict) and isinstance(value.get("version"), int) and value["version"] > VERSION:
        raise FileError(
            f"{place} is a conversation of version {value['version']}.",
            wanted=f"version {VERSION} or before",
            fix="Update neurodial to read it.",
        )
    try:
        return _File.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"]) or "it"
        raise FileError(
            f"{place} is no whole conversation: {where}: {first['msg']}.", wanted="an unchanged file of the studio"
        ) from error


def _write(studio: StudioState, file_name: str, file: _File) -> None:
    text = json.dumps(file.model_dump(), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    write_atomic(studio.collection.folder / "conversations" / file_name, text, overwrite=True)
