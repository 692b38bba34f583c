"""A model, ready to be read and steered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import nn

from neurodial.circuit.site import AllNeurons, Site
from neurodial.errors import ModelError, PromptError
from neurodial.model.down_columns import has_columns, probed_columns, readable
from neurodial.model.engine_names import EngineNames, engine_names
from neurodial.model.find_layout import find_layout
from neurodial.model.generation_settings import settings_in_force
from neurodial.model.identity import identify
from neurodial.model.layout import Layout, MlpSite, RoutedSite
from neurodial.model.named_modules import refuse_missing
from neurodial.model.plain_weight import is_quantised
from neurodial.prompts.prompt import Prompt
from neurodial.prompts.render import Tokens, appended, encode, post_instruction_length, render
from neurodial.prompts.template import PLAIN, Template, check_options, template_text, wants_parts
from neurodial.provenance import ModelIdentity
from neurodial.text.thinking import THINKING, Markers, markers_of


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter that was applied when the model was loaded.

    Attributes:
        path: the folder it came from.
        digest: SHA-256 over its tensors and settings.
        merged: whether it was merged into the weights (on a quantised base it stays separate).
    """

    path: str
    digest: str
    merged: bool


@dataclass(frozen=True)
class Subject:
    """Model, tokenizer, layout and identity: what every later stage takes.

    The model belongs to the caller: it is changed only inside a `with` block.

    Attributes:
        model: the transformers model.
        tokenizer: its tokenizer.
        layout: where its neurons are and where its blocks write.
        label: how the user named it.
        adapter: the PEFT adapter on it, or None.
        base_digest: digest of the weights before the adapter was merged, or None.
        source: folder, GGUF file or Hub id that it was loaded from; None for a live model.
        template: variables of the chat template, and the markers of thinking where they can't be found.
        unused: tensors of the checkpoint that the model does not use.
        engine: what runs the model in place of transformers (`generation.running_engine.RunningEngine`); None: nothing.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> tiny_subject("llama").layers, tiny_subject("llama").neurons
        (2, 48)
    """

    model: Any
    tokenizer: Any
    layout: Layout
    label: str
    adapter: Adapter | None = None
    base_digest: str | None = None
    source: str | None = None
    template: Template = PLAIN
    unused: tuple[str, ...] = ()
    engine: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def of(
        cls, model: Any, tokenizer: Any, *, label: str | None = None, layout: Layout | None = None, **fields: Any
    ) -> Subject:
        """A subject of a live transformers model, in evaluation mode.

        Args:
            model: the model.
            tokenizer: its tokenizer.
            label: how to call it.
            layout: written by hand, for a model in which none is found; by default it is measured.
            fields: further attributes.

        Raises:
            LayoutError: no neurons are found, or the model is built in a way that can't be used.
            ModelError: the model lacks a module that a layout written by hand names.
            OptionError: the chat template has no variable of a name in `template`.
        """
        name = label or str(getattr(model, "name_or_path", "") or type(model).__name__)
        subject = cls(model, tokenizer, layout or find_layout(model), name, **fields)
        subject.check()
        if subject.template.options:
            check_options(template_text(tokenizer, subject.template.options), subject.template.options)
        return subject

    def check(self) -> None:
        """Refuse a model that lacks a module that its layout names.

        Raises:
            ModelError: names the module.
        """
        refuse_missing(self.model, self.layout, self.label)

    @property
    def decoder(self) -> nn.Module:
        """The text decoder: embeddings, blocks and final norm, without the language-model head."""
        return cast(nn.Module, self.model.get_submodule(self.layout.decoder))

    @property
    def head(self) -> nn.Module:
        """The module that turns the decoder's output into logits, up to a factor and a cap.

        Raises:
            ModelError: no such module was found.
        """
        path = self.layout.head.path
        if path is None:
            raise ModelError(
                f"{self.label} turns hidden states into logits in a way that could not be measured.",
                wanted="one module after the decoder, its output times a constant, with or without a cap",
                fix="Method cna and steering need no logits apart from the model's own.",
            )
        last = cast(nn.Module, self.model.get_submodule(path))
        before = self.layout.head.before
        return last if before is None else nn.Sequential(self.model.get_submodule(before), last)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The decoder's blocks, in the order in which they run."""
        return tuple(self.model.get_submodule(block.path) for block in self.layout.blocks)

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.layout.blocks)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Every dense MLP and every layer's routed experts, in order."""
        routed = (Site(layer, routed=True) for layer, _ in self.layout.experts)
        return tuple(sorted((*self.dense_sites, *routed)))

    @cached_property
    def dense_sites(self) -> tuple[Site, ...]:
        """Every dense MLP, in order."""
        return tuple(Site(layer) for layer, _ in self.layout.sites)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Number of neurons of each layer's dense MLP, 0 where it has none."""
        return tuple(0 if block.site is None else block.site.width for block in self.layout.blocks)

    def shape(self, site: Site) -> tuple[int, ...]:
        """The axes of a tensor over a site: (neuron,), or (expert, neuron) of routed experts.

        Example:
            >>> from neurodial.circuit.site import Site
            >>> from neurodial.model.tiny import tiny_subject
            >>> tiny_subject().shape(Site(0)), tiny_subject("mixtral").shape(Site(0, routed=True))
            ((24,), (4, 24))
        """
        return self.experts(site.layer).shape if site.routed else (self.mlp(site).width,)

    @cached_property
    def everything(self) -> AllNeurons:
        """All neurons, each by its position."""
        return AllNeurons({site: self.shape(site) for site in self.sites})

    def experts(self, layer: int) -> RoutedSite:
        """What is known of a layer's routed experts.

        Raises:
            ModelError: the layer has none whose neurons can be read.
        """
        found = self.layout.blocks[layer].experts
        if found is None:
            raise ModelError(
                f"Layer {layer} of {self.label} has no routed experts whose neurons can be read.",
                wanted=f"one of the layers {', '.join(str(each) for each, _ in self.layout.experts) or '(none)'}",
            )
        return found

    def mlp(self, site: Site) -> MlpSite:
        """What is known of a site.

        Raises:
            ModelError: the layer has no dense MLP, or routed experts are meant.
        """
        if site.routed:
            raise ModelError(
                f"Neurons of the routed experts of layer {site.layer} came to a part that is for dense MLPs.",
                wanted="neurons without an expert",
                fix="Neurons of routed experts can be found (methods cna and dose), steered, mapped in the studio, "
                "compared and exported (weights, lora, gguf).",
            )
        found = self.layout.blocks[site.layer].site
        if found is None:
            raise ModelError(
                f"Layer {site.layer} of {self.label} has no dense MLP.",
                wanted=f"one of the layers {', '.join(str(each.layer) for each in self.dense_sites)}",
            )
        return found

    @property
    def engines(self) -> EngineNames:
        """What other engines call its parts."""
        return engine_names(self.layout.label)

    @property
    def neurons(self) -> int:
        """Number of MLP neurons of the whole model, those of routed experts too."""
        return self.everything.count

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return self.layout.hidden_size

    @property
    def context_length(self) -> int | None:
        """The longest sequence that the model takes, or None where its configuration does not say."""
        config = self.model.config.get_text_config()
        length = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return None if length is None else int(length)

    @property
    def device(self) -> torch.device:
        """The device that inputs go to: that of the input embedding, even where its weights are stored elsewhere."""
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
        """What identifies the model, wherever it was loaded from; computed once, from a fixed sample of the weights."""
        return identify(
            self.model,
            self.tokenizer,
            label=self.label,
            family=self.layout.label,
            layout=self.layout.digest,
            widths=self.widths,
            experts=tuple(None if block.experts is None else block.experts.shape for block in self.layout.blocks),
            base_digest=self.base_digest,
            adapter_digest=None if self.adapter is None else self.adapter.digest,
            setup=self.setup,
        )

    @property
    def setup(self) -> dict[str, Any]:
        """Settings of loading, prompting and answering that differ from the defaults; empty where none do."""
        options = self.template.options
        has_template = template_text(self.tokenizer, options) is not None
        markers = self.template.thinking_markers
        settings = {
            "template_options": dict(options),
            "content_as_parts": has_template and wants_parts(self.tokenizer, options),
            "thinking_markers": None if markers is None else list(markers),
            "dropped_end": [self.tokenizer.decode([token]) for token in appended(self.tokenizer)],
            "unused_weights": list(self.unused),
            "routed_experts": [path for block in self.layout.blocks for path in block.unread],
            "generation": settings_in_force(self.model),
        }
        return {name: value for name, value in settings.items() if value}

    @property
    def quantised_maps(self) -> dict[str, nn.Module]:
        """The modules whose own weights are packed by a quantising library, by their full names."""
        return {path: module for path, module in self.model.named_modules() if is_quantised(module)}

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the input embedding has a row for."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def has_chat(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return template_text(self.tokenizer) is not None

    @property
    def thinking(self) -> tuple[Markers, ...]:
        """The markers of thinking: those given, or those that template or tokenizer name."""
        return self.markers(THINKING)

    def markers(self, known: Sequence[Markers]) -> tuple[Markers, ...]:
        """The known markers that template or tokenizer name; for thinking, the given markers instead."""
        given = self.template.thinking_markers
        if given is not None and known is THINKING:
            return (Markers(*given),)
        return markers_of(template_text(self.tokenizer, self.template.options), self.tokenizer, known=known)

    def render(self, prompts: Sequence[Prompt], *, system: str | None = None, double_bos: bool = False) -> list[Tokens]:
        """Token ids of prompts, as the model sees them before it answers (`neurodial.prompts.render.render`).

        Raises:
            PromptError: a chat template that refuses or loses a message, or a token that the model has no row for.
            OptionError: the template has no variable of a name in `template`.
        """
        rendered = render(self.tokenizer, prompts, system=system, double_bos=double_bos, template=self.template)
        for number, tokens in enumerate(rendered, start=1):
            self.check_tokens(tokens, f"Prompt {number}")
        return rendered

    def encode(self, text: str, *, special: bool = True) -> Tokens:
        """Token ids of a plain text; with the special tokens before it, or none for a text that continues another.

        Raises:
            PromptError: a token that the model has no row for.
        """
        if special:
            tokens = encode(self.tokenizer, text)
        else:
            tokens = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return self.check_tokens(tokens, f"The text {text[:40]!r}")

    def check_tokens(self, tokens: Tokens, what: str) -> Tokens:
        """The tokens, refused where the model's embedding has no row for one.

        Raises:
            PromptError: names the token.
        """
        rows = self.vocabulary
        beyond = next((token for token in tokens if token >= rows), None)
        if beyond is not None:
            raise PromptError(
                f"{what} has the token {self.tokenizer.decode([beyond])!r} (id {beyond}); the model has no row for it.",
                wanted=f"ids below {rows}",
                fix="The tokenizer has more tokens than the model's embedding: take the tokenizer that belongs to the "
                "model, or leave the token out.",
            )
        return tokens

    @property
    def post_instruction_length(self) -> int:
        """How many tokens the chat template puts after the user's text.

        Raises:
            PromptError: there is no chat template, or it puts nothing there.
        """
        return post_instruction_length(self.tokenizer, self.template)

    def down(self, site: Site) -> nn.Module:
        """The down projection of a site."""
        return cast(nn.Module, self.model.get_submodule(self.down_name(site)))

    def down_name(self, site: Site) -> str:
        """The full name of a site's down projection in the model, as adapters and checkpoints name it."""
        return f"{self.layout.blocks[site.layer].path}.{self.mlp(site).down}"

    def experts_name(self, layer: int) -> str:
        """The full name of the parameter that holds the down weights of a layer's routed experts."""
        experts = self.experts(layer)
        return f"{self.layout.blocks[layer].path}.{experts.module}.{experts.down}"

    def down_columns(self, site: Site, indices: Sequence[int]) -> Float[torch.Tensor, "hidden column"]:
        """Columns of a site's down projection in float32, as the model computes with them.

        Those of routed experts are counted through, one expert after the other.

        Raises:
            ModelError: the projection gives no finite columns, or they are of experts and can't be read.
        """
        if site.routed:
            weight, places = self.down_weight(site), torch.tensor(list(indices))
            experts, within = places // weight.shape[-1], places % weight.shape[-1]
            return weight[experts, :, within].T.detach().float().cpu()
        module = self.down(site)
        if has_columns(module):
            return self.down_weight(site)[:, list(indices)].detach().float().cpu()
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        return probed_columns(module, self.widths[site.layer], list(indices), like, self.label)

    def down_weight(self, site: Site) -> torch.Tensor:
        """The down projection's weight as (hidden, neuron), of experts (expert, hidden, neuron); a view.

        Raises:
            ModelError: the weight is quantised or offloaded, so its columns can't be read.
        """
        if site.routed:
            experts = self.experts(site.layer)
            return readable(experts.weight(self.blocks[site.layer]), site, transposed=experts.transposed)
        return readable(getattr(self.down(site), "weight", None), site, transposed=self.mlp(site).transposed)
