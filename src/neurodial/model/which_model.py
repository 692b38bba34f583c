"""What a user may call a model: what can't be one is refused at once, with the names that are near. Torch-free."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from neurodial.errors import ModelError
from neurodial.files import near_files

DEMO_NAMES = ("demo", "demo-base")
"""Names of the models that come with a package."""
_WANTED = "a Hub id, a folder with config.json and weights, a GGUF file, demo, or demo-base"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_MISSPELT = 0.8  # of difflib's ratio: demo-bse and deom are, gpt2 and opt are not


def refuse_no_model(name: str) -> None:
    """Refuse a name that can't be loaded from here, before torch is imported or the Hub is asked.

    Args:
        name: a Hub id, a path, `demo` or `demo-base`.

    Raises:
        ModelError: it is a misspelt demo model, a path with nothing there, a folder without a model, or, offline, a
            Hub id that is not in the cache; offers near names.

    Example:
        >>> refuse_no_model("demo")
        >>> refuse_no_model("demo-bse")
        Traceback (most recent call last):
            ...
        neurodial.errors.ModelError: There is no model 'demo-bse'. Wanted: a Hub id, a folder with config.json and
        weights, a GGUF file, demo, or demo-base. Did you mean demo-base?
    """
    path = Path(name).expanduser()
    if name in DEMO_NAMES or path.is_file():
        return
    if path.is_dir():
        _refuse_other_folder(path)
        return
    close = difflib.get_close_matches(name.casefold(), DEMO_NAMES, n=1, cutoff=_MISSPELT)
    if close:
        raise _no_model(name, f"Did you mean {close[0]}?")
    if not _HUB_ID.fullmatch(name) or name.startswith(".") or path.suffix == ".gguf":
        raise _no_model(name, f"Nothing stands at this path. {near_files(path) or ''}".strip())
    if is_offline() and name not in cached_models():
        raise _no_model(name, _offline_words(name))


def is_offline() -> bool:
    """Whether the Hub may not be asked."""
    return os.environ.get("HF_HUB_OFFLINE", "0").casefold() not in {"", "0", "false", "no", "off"}


def cached_models() -> list[str]:
    """Ids of the models in the Hub's cache on this machine."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return sorted(
        path.name.removeprefix("models--").replace("--", "/") for path in Path(HF_HUB_CACHE).glob("models--*")
    )


def _refuse_other_folder(path: Path) -> None:
    names = {inside.name for inside in path.iterdir()}
    if "config.json" in names:
        return
    gguf = sorted(name for name in names if name.endswith(".gguf"))
    fix = None
    if gguf:
        fix = f"It holds a GGUF file: give {path / gguf[0]}."
    elif "adapter_config.json" in names:
        fix = "It is an adapter: give the model that it belongs to, and --adapter with this folder."
    elif any((path / name / "config.json").exists() for name in names):
        inside = next(name for name in sorted(names) if (path / name / "config.json").exists())
        fix = f"Did you mean {path / inside}?"
    raise ModelError(f"The folder {path} has no config.json.", wanted=_WANTED, fix=fix)


def _no_model(name: str, fix: str) -> ModelError:
    return ModelError(f"There is no model {name!r}.", wanted=_WANTED, fix=fix)


def _offline_words(name: str) -> str:
    cached = cached_models()
    close = difflib.get_close_matches(name, cached, n=3, cutoff=0.5)
    near = f"Did you mean {' or '.join(close)}? " if close else ""
    return (
        f"{near}It is no local path, and HF_HUB_OFFLINE keeps the Hub from being asked; "
        f"{len(cached)} model{'' if len(cached) == 1 else 's'} of the Hub {'is' if len(cached) == 1 else 'are'} in the "
        "cache here."
    )
