"""Circuits at their dials as adapters that vLLM loads, each in a folder whose name says what is in it.

Doses are kept at dial 1 and written once; a dial is another configuration beside a link to the same matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from neurodial.errors import ExportError
from neurodial.export.formats import export_format
from neurodial.export.own_adapter import base_of
from neurodial.export.peft_adapter import CONFIG, write_lora
from neurodial.export.recipe import Recipe, recipe_of
from neurodial.export.vllm_plugin import ServedExport, folder_at
from neurodial.files import new_folder
from neurodial.intervention.base import Intervention, Together
from neurodial.intervention.scale import Scale
from neurodial.model.subject import Subject
from neurodial.provenance import canonical_json, sha256

FOLDER = "adapters"


class Adapters:
    """The adapters of one model in one folder.

    Args:
        subject: the model whose columns are taken.
        folder: where `adapters` is made.
    """

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject, self._folder = subject, folder
        self._known: list[tuple[Intervention, str]] = []
        self.rank = 0

    def name(self, intervention: Intervention) -> str:
        """The adapter of an intervention: its folder, seen from the folder of all; written on the first call.

        Raises:
            ExportError: it is no circuit at a dial, or vLLM can't take it as an adapter.
            ModelMismatchError: a circuit was made on another model.
        """
        for known, name in self._known:
            if known is intervention or known == intervention:
                return name
        recipe = recipe_of(self._subject, _scales(intervention))
        export_format("vllm").check_all(self._subject, recipe)
        self.rank = max(self.rank, recipe.rank)
        name = self._written(recipe).relative_to(self._folder).as_posix()
        self._known.append((intervention, name))
        return name

    def _written(self, recipe: Recipe) -> Path:
        doses = {layer: sorted(of.items()) for layer, of in recipe.doses.items()}
        digest = sha256(canonical_json([self._subject.identity.digest, doses]))
        folder = self._folder / FOLDER / digest[:16]
        if not folder.exists():
            with new_folder(folder, mark=CONFIG) as new:
                write_lora(self._subject, replace(recipe, strength=1.0), new, base=base_of(self._subject))
        served = ServedExport("dial", folder, recipe.strength, recipe.rank, digest, ())
        return folder_at(served, recipe.strength, self._folder / FOLDER)


def _scales(intervention: Intervention) -> Sequence[Scale]:
    parts = intervention.parts if isinstance(intervention, Together) else (intervention,)
    scales = [part for part in parts if isinstance(part, Scale)]
    if len(scales) < len(parts):
        other = next(part for part in parts if not isinstance(part, Scale))
        raise ExportError(
            f"{type(other).__name__} changes activations in a way that no adapter does.",
            wanted="circuits at dials, where an engine runs the model",
            fix="Measure it in transformers.",
        )
    return scales
