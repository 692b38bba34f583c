"""Circuits at their dials as files that vLLM takes, each in a folder whose name says what is in it.

Adapters where vLLM runs them: doses are kept at dial 1 and written once; a dial is another configuration beside a link
to the same matrices. Banks where it doesn't (`vllm_bank`): doses with the dial in them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from neurodial.engines.vllm_exports import BANK, FOLDERS, ServedExport
from neurodial.engines.vllm_plugin import folder_at
from neurodial.engines.vllm_settings import SLOTS
from neurodial.errors import ExportError
from neurodial.export.bank_file import write_doses
from neurodial.export.engines import vllm_rank
from neurodial.export.formats import export_format
from neurodial.export.manifest import MANIFEST, manifest_of, write_manifest
from neurodial.export.own_adapter import base_of
from neurodial.export.peft_adapter import CONFIG, write_lora
from neurodial.export.recipe import Recipe, recipe_of
from neurodial.files import new_folder
from neurodial.intervention.base import Intervention, Together
from neurodial.intervention.scale import Scale
from neurodial.model.subject import Subject
from neurodial.provenance import canonical_json, sha256

LEAST_RANK = 16
"""Room that is kept where there is an adapter at all: controls may be of a larger rank than the circuit."""


class DialFiles(ABC):
    """What vLLM is given for the circuits of one model.

    Args:
        subject: the model that they are made for.
        folder: where a folder of them is made.
    """

    route: ClassVar[str]

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject, self._folder = subject, folder
        self._known: list[tuple[Intervention, str]] = []

    def name(self, intervention: Intervention) -> str:
        """What a row under an intervention names; its files are written on the first call.

        Raises:
            ExportError: it is no circuit at a dial, or vLLM can't take it in this form.
            ModelMismatchError: a circuit was made on another model.
        """
        for known, name in self._known:
            if known is intervention or known == intervention:
                return name
        recipe = recipe_of(self._subject, _scales(intervention))
        export_format(self.route).check_all(self._subject, recipe)
        name = self._written(recipe)
        self._known.append((intervention, name))
        return name

    @abstractmethod
    def _written(self, recipe: Recipe) -> str:
        """Write the files of a recipe; gives the name."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The room that vLLM needs for all of them."""

    @property
    @abstractmethod
    def room(self) -> int:
        """The room to start vLLM with."""

    @abstractmethod
    def session(self) -> dict[str, Any]:
        """What vLLM's side is told of them as it starts."""

    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """Environment variables that it starts with."""


class Adapters(DialFiles):
    """LoRA adapters; a name is the adapter's folder, seen from the folder of all."""

    route = "vllm"
    _rank = 0

    def _written(self, recipe: Recipe) -> str:
        self._rank = max(self._rank, recipe.rank)
        doses = {layer: sorted(of.items()) for layer, of in recipe.doses.items()}
        digest = sha256(canonical_json([self._subject.identity.digest, doses]))
        folder = self._folder / "adapters" / digest[:16]
        if not folder.exists():
            with new_folder(folder, mark=CONFIG) as new:
                write_lora(self._subject, replace(recipe, strength=1.0), new, base=base_of(self._subject))
        served = ServedExport("dial", folder, recipe.strength, recipe.rank, digest, ())
        return folder_at(served, recipe.strength, self._folder / "adapters").relative_to(self._folder).as_posix()

    @property
    def size(self) -> int:
        return self._rank

    @property
    def room(self) -> int:
        return vllm_rank(max(self._rank, LEAST_RANK)) or self._rank if self._rank else 0

    def session(self) -> dict[str, Any]:
        return {"rank": self.room, "module": self._subject.engines.vllm_module}

    def settings(self) -> Mapping[str, str]:
        return {}


class Banks(DialFiles):
    """Doses for vLLM's own layers, for what no adapter carries; a name is a setting."""

    route = BANK

    def _written(self, recipe: Recipe) -> str:
        dense, routed = _turned(recipe.doses, recipe.strength), _turned(recipe.routed, recipe.strength)
        whole = replace(recipe, doses=dense, routed=routed, strength=1.0)
        pairs = [{layer: sorted(of.items()) for layer, of in doses.items()} for doses in (dense, routed)]
        name = sha256(canonical_json([self._subject.identity.digest, pairs]))[:16]
        folder = self._folder / "banks" / name
        if not folder.exists():
            with new_folder(folder, mark=MANIFEST) as new:
                write_doses(self._subject, whole, new)
                manifest = manifest_of(
                    self._subject, whole, self.route, parts=[], notes=[], precision="float32", adapter=None
                )
                write_manifest(new, manifest)
        return f"{name}@1.0"

    @property
    def size(self) -> int:
        return len({name for _, name in self._known})

    @property
    def room(self) -> int:
        return self.size

    def session(self) -> dict[str, Any]:
        return {"rank": 0, "is_bank": True}

    def settings(self) -> Mapping[str, str]:
        names = sorted({name.partition("@")[0] for _, name in self._known})
        folders = [f"{name}={(self._folder / 'banks' / name).resolve()}" for name in names]
        return {FOLDERS: ":".join(folders), SLOTS: str(max(1, self.size))}


def _turned(doses: Mapping[int, Mapping[Any, float]], dial: float) -> dict[int, dict[Any, float]]:
    """Doses with a dial in them."""
    return {layer: {place: dial * dose for place, dose in of.items()} for layer, of in doses.items()}


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
