"""The oracle of many tests: one prompt per pass, hooks written here, module paths written here, sums in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

_LLAMA = "model.layers.{}.mlp.down_proj"
DOWN = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "phi3"), _LLAMA),
    "gpt2": "transformer.h.{}.mlp.c_proj",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
    "opt": "model.decoder.layers.{}.fc2",
}
"""Where each family's down projections are."""


def down(model: Any, layer: int) -> Any:
    """The down projection of a layer."""
    return model.get_submodule(DOWN[model.config.model_type].format(layer))


@contextmanager
def hooked(module: Any, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Iterator[None]:
    """The input of a module changed by a function, for the length of a block."""

    def hook(_: Any, args: tuple[Any, ...]) -> Any:
        replaced = change(args[0])
        return None if replaced is None else (replaced, *args[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def activations(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Activations (token, neuron) of one prompt, all layers side by side, in float64."""
    parts = []
    for layer in range(model.config.num_hidden_layers):
        seen: list[torch.Tensor] = []
        with hooked(down(model, layer), lambda neurons, seen=seen: seen.append(neurons.detach().clone())):
            model(torch.tensor([list(tokens)]))
        parts.append(seen[0].reshape(len(tokens), -1))
    return torch.cat(parts, dim=1).double()


def means(model: Any, sequences: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> torch.Tensor:
    """The mean over each prompt's places: (prompt, neuron)."""
    rows = [
        activations(model, tokens)[list(place)].mean(dim=0) for tokens, place in zip(sequences, places, strict=True)
    ]
    return torch.stack(rows)
