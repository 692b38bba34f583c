"""Exported files as an engine loads them, for the length of a `with` block, so that they can be measured."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurodial.circuit.site import Site
from neurodial.export.peft_adapter import LowRank
from neurodial.model.load import load
from neurodial.model.subject import Subject


@dataclass(frozen=True)
class Loaded:
    """A model with the exported files in it.

    Attributes:
        model: what is called.
        engine: what loaded the files, in words.
        set_strength: turns an adapter's strength; files that are fixed ignore it.
    """

    model: Any
    engine: str
    set_strength: Callable[[float], None]


@contextmanager
def through_peft(subject: Subject, folder: Path) -> Iterator[Loaded]:
    """An adapter put on the live model by PEFT; afterwards the model is as it was."""
    import peft
    from peft.tuners.lora import LoraLayer

    with _given_back(subject.model):
        with warnings.catch_warnings():  # of peft and transformers against each other; the comparison tells
            warnings.simplefilter("ignore")
            wrapped = peft.PeftModel.from_pretrained(subject.model, str(folder))
        wrapped.eval()
        layers = [module for module in wrapped.modules() if isinstance(module, LoraLayer)]

        def set_strength(strength: float) -> None:
            for layer in layers:
                layer.set_scale("default", strength)

        try:
            yield Loaded(wrapped, f"peft {peft.__version__}", set_strength)
        finally:
            wrapped.unload()


@contextmanager
def through_transformers(subject: Subject, path: Path, *, adapter: Path | None = None) -> Iterator[Loaded]:
    """A folder or GGUF file loaded as a model of its own, an adapter merged where one is named."""
    import transformers

    loaded = load(path, adapter=adapter, dtype=subject.dtype, **_placement(subject))
    yield Loaded(loaded.model, f"transformers {transformers.__version__}", _fixed)


@contextmanager
def through_matrices(subject: Subject, matrices: Mapping[Site, LowRank], engine: str) -> Iterator[Loaded]:
    """Low-rank matrices, as read back from a file, added to what the live model's down projections give."""
    scale = [1.0]

    def hook_of(change: LowRank) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        dtype = torch.promote_types(subject.dtype, torch.float32)
        down, up = (part.to(subject.device, dtype) for part in change)

        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            del module
            added: Tensor = (args[0].to(dtype) @ down.T) @ up.T
            return (output + scale[0] * added).to(output.dtype)

        return hook

    def set_strength(strength: float) -> None:
        scale[0] = strength

    handles = []
    try:
        for site, change in matrices.items():
            handles.append(subject.down(site).register_forward_hook(hook_of(change)))
        yield Loaded(subject.model, engine, set_strength)
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _given_back(model: nn.Module) -> Iterator[None]:
    """Undo what PEFT leaves on a model after `unload`: frozen weights, marks and its own configuration."""
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    attributes = set(vars(model))
    training = {name: module.training for name, module in model.named_modules()}
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(flags[name])
        for name in set(vars(model)) - attributes:
            delattr(model, name)
        for name, module in model.named_modules():
            module.training = training[name]


def _placement(subject: Subject) -> dict[str, Any]:
    """Where the model under test goes: as the subject, spread where that is spread."""
    if getattr(subject.model, "hf_device_map", None):
        return {"device_map": "auto"}
    return {"device": subject.device}


def _fixed(strength: float) -> None:
    del strength
