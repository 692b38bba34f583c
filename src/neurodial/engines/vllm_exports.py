"""The exports that a vLLM is to serve: read, held to their manifests, and asked for by name and dial.

It imports the standard library alone: vLLM's environment need not hold our other dependencies.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDERS = "NEURODIAL_VLLM"
LIMIT = "NEURODIAL_VLLM_LIMIT"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
DOSES = "doses.json"
BANK = "vllm-bank"
"""The format without LoRA."""

_FILES = {"vllm": ADAPTER, BANK: (DOSES,)}
"""What each format for vLLM consists of; the last file holds the doses."""
_MANIFEST = "neurodial.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_DIAL = re.compile(r"[+-]?(\d{1,4}(\.\d{1,3})?|\.\d{1,3})")
_DEFAULT_LIMIT = 8.0


@dataclass(frozen=True)
class ServedExport:
    """An export that requests may name.

    Attributes:
        name: what requests call it.
        folder: where it is.
        dial: the dial of the bare name.
        rank: the adapter's rank; 0 where there is none.
        digest: SHA-256 of the file that holds the doses.
        base: what the model that it was made for is called.
        route: the format.
    """

    name: str
    folder: Path
    dial: float
    rank: int
    digest: str
    base: tuple[str, ...]
    route: str = "vllm"


def split(text: str, exports: Mapping[str, ServedExport], limit: float) -> tuple[ServedExport, float] | None:
    """The export and the dial that a model name asks for; None where the name is nobody's here.

    Raises:
        ValueError: the name is known and the dial is not one.

    Example:
        >>> served = ServedExport("refusal", Path("exports/refusal"), 1.0, 8, "0" * 64, ("demo",))
        >>> split("refusal@-.5", {"refusal": served}, 8.0)[1]
        -0.5
        >>> split("refusal@nan", {"refusal": served}, 8.0)
        Traceback (most recent call last):
        ValueError: The dial in 'refusal@nan' is not a number with at most three decimals, such as refusal@0.5.
    """
    name, at, written = text.partition("@")
    served = exports.get(name)
    if served is None:
        return None
    if not at:
        return served, served.dial
    shown = repr(text[:120])
    if not written.isascii() or _DIAL.fullmatch(written) is None:
        raise ValueError(f"The dial in {shown} is not a number with at most three decimals, such as {name}@0.5.")
    dial = float(written) + 0.0  # no negative zero
    if abs(dial) > limit:
        raise ValueError(f"The dial in {shown} is out of range: from {-limit:g} to {limit:g}.")
    return served, dial


def read_exports(setting: str) -> dict[str, ServedExport]:
    """The exports that the setting names, by their names.

    Raises:
        ValueError: a folder is no export for vLLM or has changed, or two have the same name.
    """
    exports: dict[str, ServedExport] = {}
    for entry in filter(None, setting.split(":")):
        name, equals, folder = entry.rpartition("=")
        served = read_export(Path(folder), name if equals else None)
        if served.name in exports:
            raise ValueError(f"{FOLDERS}: two exports are called {served.name!r}; name one: other={folder}.")
        exports[served.name] = served
    return exports


def read_export(folder: Path, name: str | None = None) -> ServedExport:
    """One export, checked: its doses are those that were proven when it was made.

    Raises:
        ValueError: it is no export for vLLM, or has changed since.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        route = manifest["route"]
        if manifest["format"] != "neurodial.export" or manifest["version"] != 1 or route not in _FILES:
            raise ValueError(f"it is {manifest['format']!r}, version {manifest['version']}, route {route!r}")
        digests = {part: _digest(folder / part) for part in _FILES[route]}
        changed = sorted(part for part, digest in digests.items() if manifest["files"].get(part) != digest)
        if changed:
            raise ValueError(f"{', '.join(changed)} changed since the export")
        base = manifest["base"]
        served = ServedExport(
            name=name or str(manifest["name"]),
            folder=folder.resolve(),
            dial=float(manifest["strength"]),
            rank=0 if route == BANK else int(json.loads((folder / ADAPTER[0]).read_text(encoding="utf-8"))["r"]),
            digest=digests[_FILES[route][-1]],
            base=tuple(str(part) for part in (base["label"], base["source"]) if part),
            route=route,
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{FOLDERS}: {folder} can't be served: {error!r}. Wanted: a folder made by neurodial export --as vllm or "
            f"--as {BANK}."
        ) from error
    if _NAME.fullmatch(served.name) is None:
        raise ValueError(
            f"{FOLDERS}: {served.name!r} can't be asked for by name. Give {folder} another: NAME={folder}, of letters, "
            "digits and . _ + -."
        )
    return served


def read_limit(setting: str) -> float:
    """The largest dial, without its sign.

    Raises:
        ValueError: it is not a number between 0 and 1000.
    """
    try:
        limit = float(setting) if setting else _DEFAULT_LIMIT
    except ValueError:
        limit = -1.0
    if not 0 < limit <= 1000:
        raise ValueError(f"{LIMIT} is {setting!r}. Wanted: a number above 0, at most 1000.")
    return limit


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
