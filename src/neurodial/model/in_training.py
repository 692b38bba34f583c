"""A model in the middle of its training, looked at and given back as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from neurodial.errors import ModelError


def bare_model(model: Any) -> Any:
    """The transformers model inside what training wraps around it: data parallelism, compilation, PEFT.

    Adapters that are not merged stay in force, as they stand in the model's own modules.

    Raises:
        ModelError: a PEFT method that learns a prompt, which does not stand in the model.

    Example:
        >>> from neurodial.model.tiny import tiny_model
        >>> model = tiny_model()
        >>> bare_model(torch.nn.DataParallel(model)) is model
        True
    """
    model = unwrapped(model)
    peft = sys.modules.get("peft")  # a model that peft wraps has imported it
    if peft is None or not isinstance(model, peft.PeftModel):
        return model
    if model.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"The adapter is of the kind {model.peft_type}, which learns a prompt and no weights.",
            wanted="an adapter in the model's modules, such as LoRA or IA3",
        )
    return model.get_base_model()


def unwrapped(model: Any) -> Any:
    """The model inside data parallelism and torch.compile's wrapper; its modules have the same paths without them."""
    from accelerate.utils import extract_model_from_parallel

    return extract_model_from_parallel(model, keep_torch_compile=False)


@contextmanager
def borrowed(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each module's mode and all random states are as they were.

    Example:
        >>> from neurodial.model.tiny import tiny_model
        >>> model = tiny_model().train()
        >>> with borrowed(model):
        ...     model.training, torch.is_grad_enabled()
        (False, False)
        >>> model.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes:
                module.training = mode
