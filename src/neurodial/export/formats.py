"""The routes that a circuit leaves by: what each writes, and how its files are loaded to be checked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from neurodial.errors import ExportError
from neurodial.export.engines import Route
from neurodial.export.gguf_adapter import architecture_of, read_gguf_lora, write_converted, write_gguf_lora
from neurodial.export.gguf_bake import bake_gguf, check_gguf
from neurodial.export.gguf_merge import check_merge, merge_gguf
from neurodial.export.loaded import Loaded, through_matrices, through_peft, through_transformers
from neurodial.export.manifest import Manifest, Travel
from neurodial.export.merge import read_lora, scaled_rows, write_peft
from neurodial.export.peft_adapter import CONFIG, WEIGHTS, read_low_rank, write_ia3, write_lora
from neurodial.export.recipe import Recipe
from neurodial.export.tensors import DTYPES
from neurodial.export.weights import write_weights
from neurodial.model.subject import Subject

DIALLED = (1.0, 0.5, -1.0)
"""The strengths at which an adapter is checked."""

FIXED = (1.0,)


class Written(NamedTuple):
    """What a route wrote.

    Attributes:
        precision: the coarsest dtype that the changed weights went through.
        adapter: how the adapter that the model carried travels.
    """

    precision: str
    adapter: Travel | None = None


@dataclass(frozen=True)
class Way:
    """One route.

    Attributes:
        write: writes the files into a folder.
        load: loads them onto, or beside, the model.
        strengths: those at which the files are checked.
        check: refuses, before any work, what the route can't do.
    """

    write: Callable[[Subject, Recipe, Path], Written]
    load: Callable[[Subject, Manifest, Path], AbstractContextManager[Loaded]]
    strengths: tuple[float, ...]
    check: Callable[[Subject, Recipe], None]


def way(route: Route) -> Way:
    """The route of that name."""
    return _WAYS[route]


def _base_of(subject: Subject) -> str:
    return subject.source or subject.label


def _write_lora(subject: Subject, recipe: Recipe, folder: Path) -> Written:
    write_lora(subject, recipe, folder, base=_base_of(subject))
    return Written("float32", _second(subject, folder))


def _second(subject: Subject, folder: Path) -> Travel | None:
    """Put the model's adapter beside the circuit's: both are loaded together, and their changes add."""
    if subject.adapter is None:
        return None
    (folder / "first-adapter").mkdir()
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(Path(subject.adapter.path) / name, folder / "first-adapter" / name)
    return _travel(subject, "second adapter", "first-adapter")


def _travel(subject: Subject, how: str, file: str | None = None) -> Travel | None:
    adapter = subject.adapter
    return None if adapter is None else Travel(how=how, path=adapter.path, digest=adapter.digest, file=file)


def _load_lora(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    if subject.adapter is not None and not subject.adapter.merged:
        matrices = read_low_rank(subject, folder)
        return through_matrices(subject, matrices, "the file's matrices beside the unmerged adapter")
    del manifest
    return through_peft(subject, folder)


def _write_ia3(subject: Subject, recipe: Recipe, folder: Path) -> Written:
    base, travel = _merged_base(subject, folder)
    write_ia3(subject, recipe, folder, base=base)
    return Written("float32", travel)


def _write_vllm(subject: Subject, recipe: Recipe, folder: Path) -> Written:
    base, travel = _merged_base(subject, folder)
    write_lora(subject, recipe, folder, base=base)
    return Written("float32", travel)


def _merged_base(subject: Subject, folder: Path) -> tuple[str, Travel | None]:
    """The model that the files go on: where it carries an adapter, a copy with that merged, for one adapter alone."""
    if subject.adapter is None:
        return _base_of(subject), None
    base = "merged-base"
    (folder / base).mkdir()
    write_weights(subject, None, folder / base)
    return base, _travel(subject, "merged", base)


def _load_peft(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    del manifest
    return through_peft(subject, folder)


def _write_weights(subject: Subject, recipe: Recipe, folder: Path) -> Written:
    stored = write_weights(subject, recipe, folder)
    names = [str(DTYPES[name]).removeprefix("torch.") for name in stored]
    from neurodial.export.evidence import coarser

    return Written(coarser(*names), _travel(subject, "merged"))


def _load_weights(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    del manifest
    return through_transformers(subject, folder)


def _write_gguf_lora(subject: Subject, recipe: Recipe, folder: Path) -> Written:
    write_gguf_lora(subject, recipe, folder / "adapter.gguf")
    if subject.adapter is None:
        return Written("float32")
    write_converted(subject, read_lora(Path(subject.adapter.path)), folder / "first-adapter.gguf")
    return Written("float32", _travel(subject, "second adapter", "first-adapter.gguf"))


def _load_gguf_lora(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    del manifest
    matrices = read_gguf_lora(subject, folder / "adapter.gguf")
    return through_matrices(subject, matrices, "the file's matrices, read back")


def _write_gguf(subject: Subject, recipe: Recipe, folder: Path) -> Written:
    precision = bake_gguf(subject, recipe, folder / "model.gguf")
    if subject.adapter is None:
        return Written(precision)
    lora = scaled_rows(subject, recipe, read_lora(Path(subject.adapter.path)))
    write_converted(subject, lora, folder / "first-adapter.gguf")
    (folder / "first-adapter").mkdir()
    write_peft(lora, Path(subject.adapter.path), folder / "first-adapter")
    return Written(precision, _travel(subject, "second adapter", "first-adapter.gguf"))


def _load_gguf(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    beside = folder / "first-adapter" if manifest.adapter is not None else None
    return through_transformers(subject, folder / "model.gguf", adapter=beside)


def _write_gguf_merged(subject: Subject, recipe: Recipe, folder: Path) -> Written:
    merged = merge_gguf(subject, recipe, folder / "model.gguf")
    travel = _travel(subject, "merged and re-quantised")
    return Written(merged.precision, travel and travel.model_copy(update={"types": merged.types}))


def _load_gguf_merged(subject: Subject, manifest: Manifest, folder: Path) -> AbstractContextManager[Loaded]:
    del manifest
    return through_transformers(subject, folder / "model.gguf")


def _check_gguf_lora(subject: Subject, recipe: Recipe) -> None:
    del recipe
    architecture_of(subject)


def _anything(subject: Subject, recipe: Recipe) -> None:
    del subject, recipe


def _check_ia3(subject: Subject, recipe: Recipe) -> None:
    del recipe
    _check_merged(subject, "IA3")


def _check_merged(subject: Subject, what: str) -> None:
    if subject.adapter is not None and not subject.adapter.merged:
        raise ExportError(
            f"{what} can't be stacked on an adapter of a quantised model.",
            fix="Export --as lora, or merge the adapter.",
        )


def _check_vllm(subject: Subject, recipe: Recipe) -> None:
    from neurodial.export.engines import engine_notes

    _check_merged(subject, "vLLM takes one LoRA for a request: a circuit's")
    notes = engine_notes("vllm", family=subject.family.name, rank=recipe.rank)
    refused = next((note for note in notes if note.engine == "vLLM" and not note.can), None)
    if refused is not None:
        raise ExportError(f"vLLM can't take this circuit as an adapter: {refused.how}.")


_WAYS: dict[Route, Way] = {
    "lora": Way(_write_lora, _load_lora, DIALLED, _anything),
    "ia3": Way(_write_ia3, _load_peft, FIXED, _check_ia3),
    "weights": Way(_write_weights, _load_weights, FIXED, _anything),
    "vllm": Way(_write_vllm, _load_peft, DIALLED, _check_vllm),
    "gguf-lora": Way(_write_gguf_lora, _load_gguf_lora, DIALLED, _check_gguf_lora),
    "gguf": Way(_write_gguf, _load_gguf, FIXED, check_gguf),
    "gguf-merged": Way(_write_gguf_merged, _load_gguf_merged, FIXED, check_merge),
}
