"""What inspect_ai finds by its entry point: the name of our provider. Light, as it is imported at every start."""

from __future__ import annotations

from typing import Any

from inspect_ai.model import modelapi


@modelapi(name="neurodial")  # type: ignore[untyped-decorator, unused-ignore]  # installed or not
def neurodial() -> Any:
    """The provider, imported when a model of it is asked for."""
    from neurodial.evaluation.inspect_model import NeurodialAPI

    return NeurodialAPI
