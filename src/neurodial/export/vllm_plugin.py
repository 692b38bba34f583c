"""A dial for each request on an unmodified vLLM: `model="refusal@0.5"`.

vLLM loads this module by its entry point `vllm.general_plugins`, in an environment that need not hold our other
dependencies: it imports the standard library and vllm, nothing else. It does nothing unless `NEURODIAL_VLLM` names
folders made by `neurodial export --as vllm`, joined by `:` and each with a name of its own where wanted
(`NEURODIAL_VLLM=exports/refusal:short=exports/formality`).

1. At start: read each folder's manifest, check that the adapter is the one that was exported, keep it by its name.
2. On an unknown model name vLLM asks `resolve_lora`: `NAME` is the export at its own dial, `NAME@D` at dial D, with
   doses kept at dial 1, hence `lora_alpha = D * rank`.
3. Write, once, a folder of its own for each dial: the adapter's configuration with that alpha, and a link to its
   matrices. vLLM keys what its prefix cache holds by an adapter's name and path, so dials never share a block.

Dials have at most three decimals and lie within ±`NEURODIAL_VLLM_LIMIT` (8): the number of folders stays bounded
whatever is asked. The folders go to `NEURODIAL_VLLM_CACHE` (`~/.cache/neurodial/vllm`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDERS = "NEURODIAL_VLLM"
CACHE = "NEURODIAL_VLLM_CACHE"
LIMIT = "NEURODIAL_VLLM_LIMIT"
RUNTIME = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"

_CONFIG, _WEIGHTS, _MANIFEST = "adapter_config.json", "adapter_model.safetensors", "neurodial.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_DIAL = re.compile(r"[+-]?(\d{1,4}(\.\d{1,3})?|\.\d{1,3})")
_DEFAULT_LIMIT = 8.0

logger = logging.getLogger("vllm.neurodial")  # a child of vLLM's logger, so that its settings show our lines


@dataclass(frozen=True)
class ServedExport:
    """An export that requests may name.

    Attributes:
        name: what requests call it.
        folder: where it is.
        dial: the dial of the bare name.
        rank: the adapter's rank.
        digest: SHA-256 of the adapter's matrices.
        base: what the model that it was made for is called.
    """

    name: str
    folder: Path
    dial: float
    rank: int
    digest: str
    base: tuple[str, ...]


def register() -> None:
    """What vLLM calls in each of its processes; does nothing where `NEURODIAL_VLLM` is not set.

    Raises:
        ValueError: a folder is no export for vLLM, two have the same name, or the limit is not a number.
    """
    setting = os.environ.get(FOLDERS, "")
    if not setting:
        return
    exports = read_exports(setting)
    limit = read_limit(os.environ.get(LIMIT, ""))
    cache = cache_folder(os.environ)
    from vllm.lora.resolver import LoRAResolverRegistry
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        # Its index -1, "no adapter", counts from the end there; the kernels for GPUs leave such rows out.
        logger.warning(
            "On processors vLLM applies an adapter to unsteered requests too where they share a batch with steered "
            "ones: ask for NAME@0 in place of the base model."
        )
    if os.environ.get(RUNTIME, "0").lower() not in {"1", "true"}:
        logger.warning("%s is set, but vLLM asks for no dials until %s=1 is set too.", FOLDERS, RUNTIME)
    LoRAResolverRegistry.register_resolver("neurodial", resolver(exports, cache, limit))
    for served in exports.values():
        logger.info(
            "neurodial: %s (rank %d), as %s or %s@DIAL within ±%g", served.folder, served.rank, served.name,
            served.name, limit,
        )  # fmt: skip


def resolver(exports: Mapping[str, ServedExport], cache: Path, limit: float) -> Any:
    """The object that vLLM asks for unknown model names."""
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver

    class Dials(LoRAResolver):  # type: ignore[misc]  # vllm is not installed where types are checked
        """Answers `NAME` and `NAME@DIAL`."""

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> Any:
            asked = split(lora_name, exports, limit)
            if asked is None:
                return None
            served, dial = asked
            _warn_about_base(served, base_model_name, logger.warning)
            folder = folder_at(served, dial, cache)
            # The number is vLLM's to give: it replaces this one.
            return LoRARequest(lora_name=lora_name, lora_int_id=1, lora_path=str(folder), base_model_name=None)

    return Dials()


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
    """One export, checked: its adapter is the one that was proven when it was made.

    Raises:
        ValueError: it is no export for vLLM, or has changed since.
    """
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        if manifest["format"] != "neurodial.export" or manifest["version"] != 1 or manifest["route"] != "vllm":
            raise ValueError(
                f"it is {manifest['format']!r}, version {manifest['version']}, route {manifest['route']!r}"
            )
        digests = {part: _digest(folder / part) for part in (_CONFIG, _WEIGHTS)}
        changed = sorted(part for part, digest in digests.items() if manifest["files"].get(part) != digest)
        if changed:
            raise ValueError(f"{', '.join(changed)} changed since the export")
        base = manifest["base"]
        served = ServedExport(
            name=name or str(manifest["name"]),
            folder=folder.resolve(),
            dial=float(manifest["strength"]),
            rank=int(config["r"]),
            digest=digests[_WEIGHTS],
            base=tuple(str(part) for part in (base["label"], base["source"]) if part),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{FOLDERS}: {folder} can't be served: {error!r}. Wanted: a folder made by neurodial export --as vllm."
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


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where the folders of the dials go: with several machines, a folder that all of them see."""
    if environment.get(CACHE):
        return Path(environment[CACHE])
    home = environment.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "neurodial" / "vllm"


def folder_at(served: ServedExport, dial: float, cache: Path) -> Path:
    """The adapter's folder for one dial, written on the first call: all of it, or nothing.

    Raises:
        OSError: the cache can't be written.
    """
    config = json.loads((served.folder / _CONFIG).read_text(encoding="utf-8"))
    text = json.dumps({**config, "lora_alpha": dial * served.rank}, indent=1) + "\n"
    digest = hashlib.sha256(served.digest.encode() + text.encode()).hexdigest()[:16]
    target = cache / f"{served.name}-{digest}" / f"{dial:+.3f}"
    if _is_whole(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        (temporary / _CONFIG).write_text(text, encoding="utf-8")
        _link(served.folder / _WEIGHTS, temporary / _WEIGHTS)
        if not _is_whole(target):
            shutil.rmtree(target, ignore_errors=True)  # a torn one, whose matrices are gone
        with contextlib.suppress(FileExistsError):  # another process was first; its folder is the same
            _rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _is_whole(folder: Path) -> bool:
    return (folder / _CONFIG).is_file() and (folder / _WEIGHTS).exists()


def _link(source: Path, target: Path) -> None:
    """The same file under another name; across file systems a symbolic link."""
    try:
        os.link(source, target)
    except OSError:
        target.symlink_to(source.resolve())


def _rename(source: Path, target: Path) -> None:
    """Rename a folder; FileExistsError where one stands there that is not empty."""
    try:
        source.rename(target)
    except OSError as error:
        if target.is_dir():
            raise FileExistsError(str(target)) from error
        raise


def _warn_about_base(served: ServedExport, base: str, warn: Callable[[str, str, str, str], None]) -> None:
    """Say so where the server runs a model of another name than the export was made for."""
    known = {*served.base, str(served.folder / "merged-base")}
    if base not in known and Path(base).resolve() not in {Path(name).resolve() for name in known}:
        warn("neurodial: %s was made for %s, and this server runs %s.", served.name, " or ".join(served.base), base)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
