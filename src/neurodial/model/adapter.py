"""Putting a PEFT adapter on a model that has just been loaded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from neurodial.errors import ModelError
from neurodial.model.damage import DAMAGE, error_text
from neurodial.model.identity import adapter_digest, weights_digest
from neurodial.model.subject import Adapter

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_NAME = "default"
"""Peft's name of the adapter that is applied."""


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
        ModelError: the folder holds no adapter, or one that does not fit, in whole or in part; the model is then
            restored.
    """
    check_adapter(folder)
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    attributes = set(vars(model))
    try:
        base = weights_digest(model)
        digest = adapter_digest(folder)
        model, merged = _applied(model, folder, label)
    except torch.OutOfMemoryError:
        raise
    except (ModelError, *DAMAGE) as error:
        _take_out(model)
        for parameter, requires_grad in trained:
            parameter.requires_grad_(requires_grad)
        for name in set(vars(model)) - attributes:
            delattr(model, name)
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"The adapter {folder} can't be applied to {label}: {error_text(error)}",
            wanted="a LoRA or another adapter that can be merged, made on this model",
        ) from error
    return model, Adapter(str(folder), digest, merged), base


def _applied(model: Any, folder: Path, label: str) -> tuple[Any, bool]:
    from peft import PeftModel, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    quantised = bool(getattr(model, "is_quantized", False) or getattr(model, "quantization_method", None))
    tensors = load_peft_weights(str(folder), device="cpu")
    _refuse_broken(folder, tensors)
    with warnings.catch_warnings():  # peft only warns of missing tensors; they are checked below
        warnings.simplefilter("ignore")
        wrapped = PeftModel.from_pretrained(model, str(folder))
        placed = set_peft_model_state_dict(wrapped, tensors)
    prefix = str(getattr(wrapped.base_model, "prefix", ""))
    missing = [key for key in placed.missing_keys if prefix and prefix in key and f".{_NAME}" in key]
    _refuse_partial(folder, label, _as_saved(missing), _as_saved(placed.unexpected_keys), len(tensors))
    if quantised:
        wrapped.eval()
        return wrapped.get_base_model(), False
    return wrapped.merge_and_unload(safe_merge=True).eval(), True


def _refuse_broken(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Checked before any layer is merged: a merge that stops halfway leaves the earlier layers merged."""
    broken = sorted(name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor.float()).all()))
    if broken:
        raise ModelError(
            f"{len(broken)} tensors of the adapter {folder} are not finite, such as {broken[0]}.",
            wanted="an adapter whose training did not diverge",
        )


def _as_saved(keys: Sequence[str]) -> list[str]:
    """Names as in an adapter's file, without the name that peft gives the adapter in memory."""
    return sorted(key.replace(f".{_NAME}", "") for key in keys)


def _refuse_partial(folder: Path, label: str, missing: list[str], unplaced: list[str], count: int) -> None:
    """Peft initialises missing tensors so that they do nothing, and ignores those that have no place."""
    if not missing and not unplaced:
        return
    problems = []
    if unplaced:
        problems.append(f"{len(unplaced)} of its {count} tensors have no place in the model, such as {unplaced[0]}")
    if missing:
        problems.append(f"{len(missing)} tensors that its settings ask for are missing, such as {missing[0]}")
    raise ModelError(
        f"The adapter {folder} does not fit {label}: {'; '.join(problems)}.",
        wanted="a tensor for every module that adapter_config.json names, under the names of this model's modules",
        fix="Was it made on another model or wrapper (a prefix such as language_model.)? Rename its tensors, or narrow "
        "target_modules or layers_to_transform to what it holds.",
    )


def _take_out(model: Any) -> None:
    """Remove the layers of an adapter that was left half applied."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, AuxiliaryTrainingWrapper):
            model.set_submodule(name, module.original_module)
