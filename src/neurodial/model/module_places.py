"""Where a site's module is, in words by which an engine's own implementation of the model is searched."""

from __future__ import annotations

from typing import Any

from neurodial.circuit.site import Site, site_name
from neurodial.model.subject import Subject


def module_place(subject: Subject, site: Site) -> dict[str, Any]:
    """A site's name and shape, the name of its block, and that of the module in it.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> module_place(tiny_subject(), Site(1))
        {'name': '1', 'block': 'model.layers.1', 'inside': 'mlp.down_proj', 'shape': [24]}
    """
    block = subject.layout.blocks[site.layer].path
    inside = subject.experts(site.layer).module if site.routed else subject.mlp(site).down
    return {"name": site_name(site), "block": block, "inside": inside, "shape": list(subject.shape(site))}
