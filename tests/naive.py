"""The oracle of many tests: one prompt per pass, hooks written here, modules found by shape, sums in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


def down(model: Any, layer: int) -> Any:
    """The down projection of a layer, found by its shape: the map from the MLP's width to the hidden size.

    Nothing of the family records is used. Where a model's attention has such a shape too, this can't tell them apart
    and says so.
    """
    config = model.config.get_text_config()
    widths = (getattr(config, name, None) for name in ("ffn_dim", "n_inner", "intermediate_size"))
    width = next(width for width in widths if width)
    found = [module for module in model.modules() if maps(module) == (width, config.hidden_size)]
    assert len(found) == config.num_hidden_layers, "one map of that shape in each layer"
    return found[layer]


def maps(module: Any) -> tuple[int, int] | None:
    """From how many features to how many a linear module leads; GPT-2's Conv1D keeps its weight the other way."""
    if isinstance(module, torch.nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D":
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    return None


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


@torch.no_grad()
def firing(model: Any, neuron: Any, sequences: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """A neuron's activation at every token of each prompt, each prompt by itself."""
    found = []
    for tokens in sequences:
        seen: list[torch.Tensor] = []
        with hooked(down(model, neuron.layer), lambda neurons, seen=seen: seen.append(neurons.detach().clone())):
            model(torch.tensor([list(tokens)], device=model.device))
        found.append(seen[0].reshape(len(tokens), -1)[:, neuron.index].cpu())
    return found


def means(model: Any, sequences: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> torch.Tensor:
    """The mean over each prompt's places: (prompt, neuron)."""
    rows = [
        activations(model, tokens)[list(place)].mean(dim=0) for tokens, place in zip(sequences, places, strict=True)
    ]
    return torch.stack(rows)
