"""`neurodial.json`: what an exported folder is, from what, and how to check it again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

from neurodial.circuit.file import read_circuit, write_circuit
from neurodial.errors import ExportError
from neurodial.export.engines import EngineNote, vllm_rank
from neurodial.export.formats import known_format
from neurodial.export.recipe import Recipe
from neurodial.files import write_atomic
from neurodial.intervention.scale import Scale
from neurodial.model.subject import Subject
from neurodial.provenance import ModelIdentity, now, versions

MANIFEST = "neurodial.json"
VERIFICATION = "verification.json"
FORMAT = "neurodial.export"
VERSION = 1
_CIRCUITS = "circuits"


class Base(BaseModel):
    """The model that the export is for."""

    model_config = ConfigDict(extra="forbid")
    label: str
    source: str | None
    licence: str | None
    identity: dict[str, Any]


class AdapterInfo(BaseModel):
    """How the adapter that the model carried travels.

    `merged` into the weights, `merged and re-quantised`, or as a `second adapter` that is loaded beside.

    Attributes:
        types: where quantised weights were merged, how many kept their type or changed it (`Q4_1 to Q8_0`).
    """

    model_config = ConfigDict(extra="forbid")
    how: str
    path: str
    digest: str
    file: str | None
    types: dict[str, int] = {}


class Part(BaseModel):
    """One circuit of an export."""

    model_config = ConfigDict(extra="forbid")
    name: str
    file: str
    dial: float
    direction: str
    neurons: int


class Manifest(BaseModel):
    """Everything that `verify` and an engine's plugin need to know.

    Attributes:
        route: the name of the format.
        strength: the dial that an engine's strength 1 stands for.
        is_one_dial: whether all circuits have that dial; otherwise their dials are in the doses.
        ranks: number of neurons in each layer that is touched.
        rank: the largest of them: the adapter's rank.
        max_lora_rank: the rank step that vLLM has to be started with, or None.
        precision: the coarsest dtype that the changed weights went through.
        files: SHA-256 of every other file.
    """

    model_config = ConfigDict(extra="forbid")
    format: str
    version: int
    route: Annotated[str, AfterValidator(known_format)]
    name: str
    strength: float
    is_one_dial: bool
    ranks: dict[int, int]
    rank: int
    max_lora_rank: int | None
    precision: str
    base: Base
    adapter: AdapterInfo | None
    circuits: list[Part]
    engines: list[dict[str, Any]]
    versions: dict[str, str]
    created: str
    files: dict[str, str]


def write_circuits(folder: Path, scales: Sequence[Scale]) -> list[Part]:
    """Put the circuits' own files beside the export, so that it can be checked and made again."""
    (folder / _CIRCUITS).mkdir()
    parts = []
    for number, scale in enumerate(scales):
        file = f"{_CIRCUITS}/{number}.circuit.json"
        write_circuit(scale.circuit, folder / file)
        circuit = scale.circuit
        parts.append(
            Part(
                name=circuit.name,
                file=file,
                dial=float(scale.dial),  # type: ignore[arg-type]  # a recipe refuses lists
                direction=circuit.direction,
                neurons=len(circuit),
            )
        )
    return parts


def read_scales(folder: Path, manifest: Manifest) -> tuple[Scale, ...]:
    """The circuits of an export at their dials. They fit their model: that was checked when it was made."""
    return tuple(Scale(read_circuit(_inside(folder, p.file)), p.dial, force=True) for p in manifest.circuits)


def manifest_of(
    subject: Subject, recipe: Recipe, route: str, *, parts: list[Part], notes: Sequence[EngineNote], **fields: Any
) -> Manifest:
    """The manifest of an export, still without its files."""
    return Manifest(
        format=FORMAT,
        version=VERSION,
        route=route,
        name="+".join(part.name for part in parts),
        strength=recipe.strength,
        is_one_dial=recipe.is_one_dial,
        ranks=recipe.counts,
        rank=recipe.rank,
        max_lora_rank=vllm_rank(recipe.rank),
        base=Base(
            label=subject.label,
            source=subject.source,
            licence=licence_of(subject),
            identity=dataclasses.asdict(subject.identity),
        ),
        circuits=parts,
        engines=[note._asdict() for note in notes],
        versions=versions(),
        created=now(),
        files={},
        **fields,
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, with the hashes of all other files; it is the last file of an export."""
    hashes = {name: _hash(folder / name) for name in files_of(folder) if name != MANIFEST}
    value = manifest.model_copy(update={"files": hashes}).model_dump(mode="json")
    write_atomic(folder / MANIFEST, json.dumps(value, ensure_ascii=False, indent=1) + "\n", overwrite=True)


def read_manifest(folder: Path) -> Manifest:
    """Read an export's manifest.

    Raises:
        ExportError: the folder is not an export, or is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ExportError(f"{folder} is not an export.", wanted=f"a folder with {MANIFEST}, made by `neurodial export`")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict) and isinstance(value.get("version"), int) and value["version"] > VERSION:
            raise ExportError(f"{path} has version {value['version']}.", wanted=f"version {VERSION} or before")
        return Manifest.model_validate(value)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is damaged: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ExportError(f"{path} is damaged: {where}: {first['msg']}.") from error


def changed_files(folder: Path, manifest: Manifest) -> list[str]:
    """Files that are not as they were when the export was made; verification and card may be made anew."""
    redone = {VERIFICATION, "README.md"}
    return sorted(
        name
        for name, digest in manifest.files.items()
        if name not in redone and (not _inside(folder, name).is_file() or _hash(folder / name) != digest)
    )


def files_of(folder: Path) -> list[str]:
    """Every file under a folder, by its path in it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def differences(manifest: Manifest, subject: Subject) -> list[str]:
    """What keeps a model from being the one that an export was made for."""
    try:
        identity = TypeAdapter(ModelIdentity).validate_python(manifest.base.identity)
    except ValidationError as error:
        raise ExportError(f"The manifest's model identity is damaged: {error.errors()[0]['msg']}.") from error
    return identity.differences(subject.identity)


def licence_of(subject: Subject) -> str | None:
    """The base model's licence, where its card or its GGUF file names one."""
    if subject.source is None:
        return None
    path = Path(subject.source)
    if path.suffix == ".gguf":
        import gguf

        field = gguf.GGUFReader(path).fields.get("general.license")
        return None if field is None else str(field.contents())
    card = path / "README.md"
    if not card.is_file():
        return None
    lines = card.read_text(encoding="utf-8", errors="replace").splitlines()[:100]
    named = (line.partition(":")[2].strip().strip("'\"") for line in lines if line.startswith("license:"))
    return next(named, None) or None


def _inside(folder: Path, name: str) -> Path:
    """A file of the export; a name that leads out of the folder is refused."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ExportError(f"The manifest names {name!r}, outside of the export.", fix="Don't trust this folder.")
    return path


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
