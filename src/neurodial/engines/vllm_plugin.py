"""A dial for each request on an unmodified vLLM: `model="refusal@0.5"`.

vLLM loads this module by its entry point `vllm.general_plugins`, in an environment that need not hold our other
dependencies: it imports the standard library and vllm, nothing else. It does nothing unless `NEURODIAL_VLLM` names
folders made by `neurodial export --as vllm`, joined by `:` and each with a name of its own where wanted
(`NEURODIAL_VLLM=exports/refusal:short=exports/formality`). Folders made `--as vllm-bank` go the way of `vllm_patches`.

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
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neurodial.engines.vllm_exports import ADAPTER, BANK, FOLDERS, LIMIT, ServedExport, read_exports, read_limit, split

CACHE = "NEURODIAL_VLLM_CACHE"
RUNTIME = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"

_CONFIG, _WEIGHTS = ADAPTER

logger = logging.getLogger("vllm.neurodial")  # a child of vLLM's logger, so that its settings show our lines


def register() -> None:
    """What vLLM calls in each of its processes; does nothing where `NEURODIAL_VLLM` is not set.

    Raises:
        ValueError: a folder is no export for vLLM, two have the same name or go different ways, or the limit is not a
            number.
    """
    setting = os.environ.get(FOLDERS, "")
    if not setting:
        return
    exports = read_exports(setting)
    limit = read_limit(os.environ.get(LIMIT, ""))
    without_lora = [served.route == BANK for served in exports.values()]
    if any(without_lora):
        if not all(without_lora):
            raise ValueError(f"{FOLDERS} names adapters and exports --as {BANK}: one server serves one kind.")
        from neurodial.engines.vllm_patches import install_bank
        from neurodial.engines.vllm_settings import ServedCircuits, read_slots

        install_bank(ServedCircuits(exports, limit, read_slots(os.environ)))
        return
    _register_adapters(exports, limit)


def _register_adapters(exports: Mapping[str, ServedExport], limit: float) -> None:
    """Let vLLM ask for dials as adapters."""
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
