"""Putting a PEFT adapter on a model that has just been loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from neurodial.errors import ModelError
from neurodial.model.damage import DAMAGE, said
from neurodial.model.identity import adapter_digest, weights_digest
from neurodial.model.subject import Adapter

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def check_adapter(folder: Path) -> None:
    """Refuse a folder that holds no adapter; quick, so that it can be done before a model is loaded.

    Raises:
        ModelError: names the missing files.
    """
    missing = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder} is not an adapter: {' and '.join(missing)} missing.",
            wanted=f"a folder with {' and '.join(ADAPTER_FILES)}",
        )


def apply_adapter(model: Any, folder: Path, *, label: str) -> tuple[Any, Adapter, str]:
    """Apply an adapter: merged into the weights, or beside them where the base is quantised.

    Returns:
        The model, what was applied, and the digest of the weights before it.

    Raises:
        ModelError: the folder holds no adapter, or one that does not fit; the model is then as it was.
    """
    check_adapter(folder)
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        base = weights_digest(model)
        digest = adapter_digest(folder)
        model, merged = _applied(model, folder)
    except torch.OutOfMemoryError:
        raise
    except DAMAGE as error:
        _take_out(model)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
        raise ModelError(
            f"The adapter {folder} can't be applied to {label}: {said(error)}",
            wanted="a LoRA or another adapter that can be merged, made on this model",
        ) from error
    return model, Adapter(str(folder), digest, merged), base


def _applied(model: Any, folder: Path) -> tuple[Any, bool]:
    from peft import PeftModel

    quantised = bool(getattr(model, "is_quantized", False) or getattr(model, "quantization_method", None))
    wrapped = PeftModel.from_pretrained(model, str(folder))
    if quantised:
        wrapped.eval()
        return wrapped.get_base_model(), False
    return wrapped.merge_and_unload(safe_merge=True).eval(), True


def _take_out(model: Any) -> None:
    """Remove the layers of an adapter that was left half applied."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            model.set_submodule(name, module.get_base_layer())
