"""The adapter that a model carries already, beside or inside the files of an export."""

from __future__ import annotations

import shutil
from pathlib import Path

from neurodial.errors import ExportError
from neurodial.export.manifest import AdapterInfo
from neurodial.export.peft_adapter import CONFIG, WEIGHTS
from neurodial.export.weights import write_weights
from neurodial.model.subject import Subject


def base_of(subject: Subject) -> str:
    """What the files go on: the model's checkpoint, or its name."""
    return subject.source or subject.label


def adapter_info(subject: Subject, how: str, file: str | None = None) -> AdapterInfo | None:
    """How the model's own adapter goes along, for the manifest; None where the model carries none."""
    adapter = subject.adapter
    return None if adapter is None else AdapterInfo(how=how, path=adapter.path, digest=adapter.digest, file=file)


def copied_beside(subject: Subject, folder: Path) -> AdapterInfo | None:
    """Put the model's adapter beside the circuit's: both are loaded together, and their changes add."""
    if subject.adapter is None:
        return None
    (folder / "first-adapter").mkdir()
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(Path(subject.adapter.path) / name, folder / "first-adapter" / name)
    return adapter_info(subject, "second adapter", "first-adapter")


def merged_base(subject: Subject, folder: Path) -> tuple[str, AdapterInfo | None]:
    """The model that the files go on: where it carries an adapter, a copy with that merged, for one adapter alone."""
    if subject.adapter is None:
        return base_of(subject), None
    base = "merged-base"
    (folder / base).mkdir()
    write_weights(subject, None, folder / base)
    return base, adapter_info(subject, "merged", base)


def refuse_unmerged(subject: Subject, what: str) -> None:
    """Refuse a model whose adapter can't be merged.

    Raises:
        ExportError: the model is quantised and carries an adapter.
    """
    if subject.adapter is not None and not subject.adapter.merged:
        raise ExportError(
            f"{what} can't be stacked on an adapter of a quantised model.",
            fix="Export --as lora, or merge the adapter.",
        )
