"""The modules that a layout names, in a model."""

from __future__ import annotations

from torch import nn

from neurodial.errors import ModelError
from neurodial.model.layout import Layout


def get_module(root: nn.Module, path: str) -> nn.Module | None:
    """The module at a dotted path, or None."""
    try:
        return root.get_submodule(path)
    except AttributeError:
        return None


def refuse_missing(model: nn.Module, layout: Layout, label: str) -> None:
    """Refuse a model that lacks a module that its layout names.

    Raises:
        ModelError: names the module.
    """
    for layer, site in layout.sites:
        block = layout.blocks[layer]
        maps = [rows.path for rows in (site.up, site.gate) if rows is not None]
        named = [site.down, *maps, site.activation, site.write.path, *(write.path for write in block.attention)]
        for path in ("", *named):
            whole = ".".join(part for part in (block.path, path) if part)
            if path is not None and get_module(model, whole) is None:
                raise ModelError(
                    f"{label} has no module {whole!r}, which the layout names in layer {layer}.",
                    wanted="the paths that print(model) shows",
                )
    for layer, experts in layout.experts:
        owner, _, name = f"{layout.blocks[layer].path}.{experts.module}.{experts.down}".rpartition(".")
        if getattr(get_module(model, owner), name, None) is None:
            raise ModelError(
                f"{label} has no parameter {experts.module}.{experts.down!r}, which the layout names in layer {layer}.",
                wanted="the paths that print(model) shows",
            )
