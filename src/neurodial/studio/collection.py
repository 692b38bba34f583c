"""What the studio keeps: circuits, prompt sets, reports and exports in one folder, each found by an id from a listing.

An id is never a path: it is compared with the names that the folder holds, and only a name that is there is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.file import read_circuit, write_circuit
from neurodial.errors import CircuitFileError, FileError, UnknownNameError, near_names
from neurodial.files import write_atomic
from neurodial.prompts.behaviours import behaviour_names, describe_behaviour, read_pairs
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.read import read_pair_file

_CIRCUIT = ".circuit.json"
_PROMPTS = ".jsonl"
_CONVERSATION = ".conversation.json"
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")


@dataclass(frozen=True)
class StoredCircuit:
    """A circuit of the collection.

    Attributes:
        id: what it is asked for by.
        circuit: itself.
        origin: whether it came with the command, with the package, or is in the folder.
    """

    id: str
    circuit: Circuit
    origin: Literal["command", "ready", "saved"]


class Collection:
    """The folder of a studio, and the circuits that came with the command and with the package.

    A circuit of the package gives way to one of the command of the same name.

    Example:
        >>> import tempfile
        >>> collection = Collection(Path(tempfile.mkdtemp()), {})
        >>> collection.save_circuit(Circuit.of([], name="Very polite!"))
        'very-polite'
        >>> [stored.id for stored in collection.circuits()]
        ['very-polite']
    """

    def __init__(self, folder: Path, given: Mapping[str, Circuit], ready: Mapping[str, Circuit] | None = None) -> None:
        self.folder = folder
        named = {name: replace(circuit, name=name) for name, circuit in {**given, **(ready or {}), **given}.items()}
        self._given = {_slug(name): circuit for name, circuit in named.items()}
        self._ready = {_slug(name) for name in ready or {} if name not in given}

    def circuits(self) -> list[StoredCircuit]:
        """Every circuit that can be read: those of the command first, then the ready ones, then the saved ones."""
        circuits = [
            StoredCircuit(name, circuit, "ready" if name in self._ready else "command")
            for name, circuit in self._given.items()
        ]
        for name in self._names("circuits", _CIRCUIT):
            try:
                read = read_circuit(self.folder / "circuits" / f"{name}{_CIRCUIT}")
                circuits.append(StoredCircuit(name, read, "saved"))
            except CircuitFileError:
                continue  # a damaged file is no reason to show nothing
        return circuits

    def circuit(self, name: str) -> Circuit:
        """A circuit by its id.

        Raises:
            UnknownNameError: there is none.
        """
        if name in self._given:
            return self._given[name]
        self._known("circuit", "circuits", name, _CIRCUIT, also=self._given)
        return read_circuit(self.folder / "circuits" / f"{name}{_CIRCUIT}")

    def save_circuit(self, circuit: Circuit, picture: Mapping[str, Any] | None = None) -> str:
        """Keep a circuit, with the view of all scores that it was chosen from where there is one; gives its id."""
        name = self._new("circuits", circuit.name, _CIRCUIT, taken=self._given)
        write_circuit(circuit, self.folder / "circuits" / f"{name}{_CIRCUIT}")
        if picture is not None:
            write_atomic(self.folder / "circuits" / f"{name}.scores.json", json.dumps(picture))
        return name

    def picture(self, name: str) -> dict[str, Any] | None:
        """The view of all scores that a saved circuit was chosen from; None where it was not kept."""
        if name not in self._names("circuits", ".scores.json"):
            return None
        view: dict[str, Any] = json.loads(
            (self.folder / "circuits" / f"{name}.scores.json").read_text(encoding="utf-8")
        )
        return view

    def prompt_sets(self) -> list[dict[str, Any]]:
        """The shipped behaviours and the user's own sets: id, title, description, whether it is theirs."""
        shipped = [(name, *describe_behaviour(name), False) for name in behaviour_names()]
        own = [(name, name, "", True) for name in self._names("prompts", _PROMPTS)]
        keys = ("id", "title", "description", "own")
        return [dict(zip(keys, row, strict=True)) for row in (*shipped, *own)]

    def pairs(self, name: str) -> PairSet:
        """A prompt set by its id.

        Raises:
            UnknownNameError: there is none.
        """
        if name in behaviour_names():
            return read_pairs(name)
        self._known("prompt set", "prompts", name, _PROMPTS, also=behaviour_names())
        return read_pair_file(self.folder / "prompts" / f"{name}{_PROMPTS}")

    def save_prompts(self, name: str, lines: str) -> str:
        """Keep a prompt set as JSON lines; gives its id. A set of the same name and content is the same set."""
        slug = _slug(name)
        path = self.folder / "prompts" / f"{slug}{_PROMPTS}"
        if slug in self._names("prompts", _PROMPTS) and path.read_text(encoding="utf-8") == lines:
            return slug
        prompt_set = self._new("prompts", name, _PROMPTS, taken=behaviour_names())
        write_atomic(self.folder / "prompts" / f"{prompt_set}{_PROMPTS}", lines)
        return prompt_set

    def conversations(self) -> list[str]:
        """Ids of the kept conversations, newest first."""
        names = self._names("conversations", _CONVERSATION)
        return sorted(names, key=lambda name: -self._conversation(name).stat().st_mtime)

    def conversation(self, name: str) -> Path:
        """The file of a conversation.

        Raises:
            UnknownNameError: there is none.
        """
        self._known("conversation", "conversations", name, _CONVERSATION, also=())
        return self._conversation(name)

    def new_conversation(self, name: str) -> Path:
        """The file of a conversation to be kept."""
        return self._conversation(self._new("conversations", name, _CONVERSATION))

    def _conversation(self, name: str) -> Path:
        return self.folder / "conversations" / f"{name}{_CONVERSATION}"

    def new_report(self, name: str) -> tuple[str, Path]:
        """Id and folder of a report to be kept."""
        report = self._new("reports", name, "")
        return report, self.folder / "reports" / report

    def report_names(self) -> dict[str, str]:
        """What reports were called, by their ids.

        Raises:
            FileError: the file of names is damaged.
        """
        path = self.folder / "reports" / "names.json"
        if not path.is_file():
            return {}
        try:
            names: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FileError(f"{path} is not JSON: {error}.", fix="Take it out: the names alone are lost.") from error
        return names

    def name_report(self, report: str, name: str) -> None:
        """Call a report something.

        Raises:
            UnknownNameError: there is none.
        """
        self.report(report)
        text = json.dumps({**self.report_names(), report: name}, ensure_ascii=False, indent=1)
        write_atomic(self.folder / "reports" / "names.json", text + "\n", overwrite=True)

    def reports(self) -> list[str]:
        """Ids of the finished reports, newest first: a frontier's numbers stand in its part `dense`."""
        return self._folders("reports", "report.json", "dense/report.json")

    def report(self, name: str) -> Path:
        """The folder of a finished report.

        Raises:
            UnknownNameError: there is none.
        """
        return self._folder("report", "reports", name, self.reports())

    def exports(self) -> list[str]:
        """Ids of the finished exports, newest first."""
        return self._folders("exports", "neurodial.json")

    def export(self, name: str) -> Path:
        """The folder of a finished export.

        Raises:
            UnknownNameError: there is none.
        """
        return self._folder("export", "exports", name, self.exports())

    def new_export(self, name: str) -> tuple[str, Path]:
        """Id and folder of an export to be made."""
        export = self._new("exports", name, "")
        return export, self.folder / "exports" / export

    def _names(self, part: str, ending: str) -> list[str]:
        place = self.folder / part
        names = [p.name.removesuffix(ending) for p in place.glob(f"*{ending}")] if place.is_dir() else []
        return sorted(name for name in names if _ID.fullmatch(name))

    def _folders(self, part: str, *marks: str) -> list[str]:
        place = self.folder / part
        times: dict[str, float] = {}
        for folder in place.iterdir() if place.is_dir() else ():
            written = [(folder / mark).stat().st_mtime for mark in marks if (folder / mark).is_file()]
            if written and _ID.fullmatch(folder.name):
                times[folder.name] = max(written)
        return sorted(times, key=lambda name: -times[name])

    def _folder(self, kind: str, part: str, name: str, known: list[str]) -> Path:
        if name not in known:
            raise UnknownNameError(f"There is no {kind} {name[:80]!r}.", fix=near_names(name[:80], known))
        return self.folder / part / name

    def _known(self, kind: str, part: str, name: str, ending: str, also: Any) -> None:
        known = [*also, *self._names(part, ending)]
        if name not in known:
            raise UnknownNameError(f"There is no {kind} {name[:80]!r}.", fix=near_names(name[:80], known))

    def _new(self, part: str, name: str, ending: str, taken: Any = ()) -> str:
        """An id that is still free."""
        slug = _slug(name)
        place = self.folder / part
        candidates = (slug if number == 1 else f"{slug}-{number}" for number in range(1, 100_000))
        return next(c for c in candidates if c not in taken and not (place / f"{c}{ending}").exists())


def _slug(name: str) -> str:
    """A name as an id.

    Example:
        >>> _slug("../Über polite")
        'ber-polite'
    """
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].strip("-")
    return cleaned or "unnamed"
