"""A model made ready to be read and steered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import nn

from neurodial.circuit.site import Site
from neurodial.errors import ModelError
from neurodial.model.families import Family, family_of
from neurodial.model.identity import identify
from neurodial.provenance import ModelIdentity


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter that was applied when the model was loaded.

    Attributes:
        path: the folder it came from.
        digest: SHA-256 over its tensors and settings.
        merged: whether it was merged into the weights (a quantised base keeps it apart).
    """

    path: str
    digest: str
    merged: bool


@dataclass(frozen=True)
class Subject:
    """Model, tokenizer, family record and identity: what every later stage takes.

    The model is borrowed: nothing here changes it but inside a `with` block.

    Attributes:
        model: the transformers model.
        tokenizer: its tokenizer.
        family: the record that describes it.
        label: how the user named it.
        adapter: the PEFT adapter on it, or None.
        base_digest: digest of the weights before the adapter was merged, or None.
        source: folder, GGUF file or Hub id that it was loaded from; None for a live model.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> subject = tiny_subject("llama")
        >>> subject.layers, subject.neurons
        (2, 48)
    """

    model: Any
    tokenizer: Any
    family: Family
    label: str
    adapter: Adapter | None = None
    base_digest: str | None = None
    source: str | None = None

    @classmethod
    def of(cls, model: Any, tokenizer: Any, *, label: str | None = None, **fields: Any) -> Subject:
        """A subject of a live transformers model, in evaluation mode.

        Raises:
            UnknownFamilyError: no family record describes the model.
            ModelError: the model lacks a module that its record names.
        """
        family = family_of(model.config.get_text_config())
        name = label or str(getattr(model, "name_or_path", "") or type(model).__name__)
        subject = cls(model, tokenizer, family, name, **fields)
        subject.check()
        return subject

    def check(self) -> None:
        """Refuse a model that lacks a module its family record names.

        Raises:
            ModelError: names the record's field and the path.
        """
        for layer, block in enumerate(self.blocks):
            for field in ("down", "up", "gate", "activation", "attention_write", "mlp_write"):
                path = getattr(self.family, field)
                if path is not None and get_module(block, path) is None:
                    raise ModelError(
                        f"Layer {layer} of {self.label} has no module {path!r}.",
                        wanted=f"the {field} of the {self.family.name} family record",
                        fix="This model departs from its family; write a record of its own.",
                    )

    @property
    def decoder(self) -> nn.Module:
        """The text decoder: embeddings, blocks and final norm, without the language-model head."""
        return cast(nn.Module, self.model.get_decoder())

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The decoder's blocks, first to last."""
        return tuple(cast(Any, self.decoder.get_submodule(self.family.blocks)))

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.widths)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Every MLP, in order."""
        return tuple(Site(layer) for layer in range(len(self.blocks)))

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Number of neurons of each layer."""
        return tuple(input_width(self.down(site), transposed=self.family.transposed) for site in self.sites)

    @property
    def neurons(self) -> int:
        """Number of MLP neurons of the whole model."""
        return sum(self.widths)

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def context_length(self) -> int | None:
        """The longest sequence that the model takes, or None where its configuration does not say."""
        config = self.model.config.get_text_config()
        length = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return None if length is None else int(length)

    @property
    def device(self) -> torch.device:
        """The device that inputs go to: that of the input embedding, also where its weights are kept elsewhere."""
        embedding = self.model.get_input_embeddings()
        device = cast(torch.device, embedding.weight.device)
        if device.type != "meta":
            return device
        return torch.device(getattr(getattr(embedding, "_hf_hook", None), "execution_device", None) or "cpu")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the activations."""
        return cast(torch.dtype, self.model.dtype)

    @cached_property
    def identity(self) -> ModelIdentity:
        """What the model is, apart from where it was found; made once, from a fixed sample of the weights."""
        return identify(
            self.model,
            self.tokenizer,
            label=self.label,
            family=self.family.name,
            widths=self.widths,
            base_digest=self.base_digest,
            adapter_digest=None if self.adapter is None else self.adapter.digest,
        )

    def down(self, site: Site) -> nn.Module:
        """The down projection of a site."""
        return self.blocks[site.layer].get_submodule(self.family.down)

    def down_name(self, site: Site) -> str:
        """The full name of a site's down projection in the model, as adapters and checkpoints name it."""
        down = self.down(site)
        return str(next(name for name, module in self.model.named_modules() if module is down))

    def down_columns(self, site: Site, indices: Sequence[int]) -> Float[torch.Tensor, "hidden column"]:
        """Columns of a site's down projection in float32, as the model computes with them.

        Columns of a quantised, offloaded or adapted projection are read by sending unit vectors through it, less
        what it answers to zero.

        Raises:
            ModelError: the projection gives no finite columns.
        """
        from transformers.pytorch_utils import Conv1D

        module = self.down(site)
        weight = getattr(module, "weight", None)
        is_plain = type(module) in {nn.Linear, Conv1D}
        if is_plain and isinstance(weight, torch.Tensor) and weight.is_floating_point() and not weight.is_meta:
            return self.down_weight(site)[:, list(indices)].detach().float().cpu()
        return _probe(module, self, self.widths[site.layer], list(indices))

    def down_weight(self, site: Site) -> torch.Tensor:
        """The down projection's weight as (hidden, neuron), whatever the module's own layout; a view.

        Raises:
            ModelError: the weight is quantised or offloaded, so its columns can't be read.
        """
        module = self.down(site)
        weight = getattr(module, "weight", None)
        if not isinstance(weight, torch.Tensor) or not weight.is_floating_point() or weight.is_meta:
            raise ModelError(
                f"The down projection of layer {site.layer} is quantised or offloaded.",
                wanted="a weight whose columns can be read",
                fix="Load the model unquantised and on one device.",
            )
        return weight.T if self.family.transposed else weight


@torch.no_grad()
def _probe(module: nn.Module, subject: Subject, width: int, indices: list[int]) -> torch.Tensor:
    units = torch.zeros(len(indices) + 1, width, dtype=subject.dtype, device=subject.device)
    units[range(len(indices)), indices] = 1
    try:
        answers = cast(torch.Tensor, module(units)).float().cpu()
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise _no_columns(subject, str(error).splitlines()[0]) from error
    columns = (answers[:-1] - answers[-1]).T
    if not bool(torch.isfinite(columns).all()) or bool((columns == 0).all()):
        raise _no_columns(subject, "it answers unit vectors with zeros, NaN or infinities")
    return columns


def _no_columns(subject: Subject, reason: str) -> ModelError:
    return ModelError(
        f"The columns of a down projection of {subject.label} can't be read: {reason}.",
        wanted="a model whose down projections can be dequantised",
        fix="Load the model unquantised.",
    )


def get_module(root: nn.Module, path: str) -> nn.Module | None:
    """The module at a dotted path, or None."""
    try:
        return root.get_submodule(path)
    except AttributeError:
        return None


def input_width(linear: nn.Module, *, transposed: bool) -> int:
    """Number of input features of a linear module, quantised and wrapped ones included."""
    features = getattr(linear, "in_features", None)
    if features is not None:
        return int(features)
    weight = cast(torch.Tensor, linear.weight)
    return int(weight.shape[0] if transposed else weight.shape[1])
