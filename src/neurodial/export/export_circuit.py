"""Shipping a circuit: write, check, describe, and only then let the folder appear.

1. Refuse what can't work: the output, the circuits, the format.
2. Measure what the hook does to real prompts.
3. Write the format's files into a hidden folder, load them as an engine does, and compare.
4. Write circuits, verification, card and manifest; rename the folder into place.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurodial.errors import VerificationError
from neurodial.export.card import write_card
from neurodial.export.equivalence import EquivalenceCheck, Reference, coarser, compare, log_probabilities, reference
from neurodial.export.formats import export_format
from neurodial.export.manifest import (
    MANIFEST,
    VERIFICATION,
    Manifest,
    changed_files,
    differences,
    manifest_of,
    read_manifest,
    read_scales,
    write_circuits,
    write_manifest,
)
from neurodial.export.recipe import recipe_of
from neurodial.files import new_folder, refuse_folder, write_atomic
from neurodial.intervention.scale import Scale
from neurodial.model.load import load
from neurodial.model.subject import Subject
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.prompt import Prompt
from neurodial.provenance import now, versions

PROMPTS = 8
"""How many of the shipped diverse prompts an export is checked on."""


@dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
        folder: where it is.
        manifest: what it is.
        checks: one comparison with the hook for each strength.
    """

    folder: Path
    manifest: Manifest
    checks: tuple[EquivalenceCheck, ...]


def export_circuit(
    subject: Subject,
    scales: Scale | Sequence[Scale],
    *,
    route: str,
    output: str | Path,
    overwrite: bool = False,
) -> Export:
    """Write circuits at their dials as files that other engines load, and check that they do what the hook does.

    Args:
        subject: the model.
        scales: one circuit at its dial, or several; doses on one neuron add.
        route: the name of a format: `lora`, `vllm`, `ia3`, `weights`, `gguf-lora`, `gguf`, `gguf-merged`.
        output: the folder to make. It appears when everything in it is written and checked, not before.
        overwrite: replace an export that stands there.

    Raises:
        FileError: the folder exists, or can't be written.
        UnknownNameError: there is no such format.
        ExportError: the format can't take this model or circuit.
        ModelMismatchError: a circuit was made on another model.
        VerificationError: the files don't do what the hook does; nothing is left behind.

    Example:
        >>> import tempfile
        >>> from neurodial.circuit.circuit import Circuit, Row
        >>> from neurodial.circuit.site import Neuron
        >>> from neurodial.intervention.scale import Scale
        >>> from neurodial.model.tiny import tiny_subject
        >>> circuit = Circuit.of([Row(Neuron(0, None, 3), 1.0, 1.0)])
        >>> folder = tempfile.mkdtemp()
        >>> export = export_circuit(tiny_subject(), Scale(circuit), route="weights", output=f"{folder}/baked")
        >>> export.checks[0].agrees
        True
    """
    form = export_format(route)
    refuse_folder(output, overwrite=overwrite, mark=MANIFEST)
    chosen = (scales,) if isinstance(scales, Scale) else tuple(scales)
    recipe = recipe_of(subject, chosen)
    form.check_all(subject, recipe)
    notes = form.engines(subject.engines, recipe.rank, subject.adapter is not None)
    expected = reference(subject, chosen, _prompts(), form.strengths)
    with new_folder(output, overwrite=overwrite, mark=MANIFEST) as folder:
        written = form.write(subject, recipe, folder)
        precision = coarser(written.precision, _dtype(subject))
        parts = write_circuits(folder, chosen)
        manifest = manifest_of(
            subject, recipe, route, parts=parts, notes=notes, precision=precision, adapter=written.adapter
        )
        checks = _compare(subject, manifest, folder, expected)
        _write_verification(folder, manifest, checks)
        write_card(folder, manifest, checks)
        write_manifest(folder, manifest)
    return Export(Path(output), read_manifest(Path(output)), checks)


def verify_export(folder: str | Path, *, subject: Subject | None = None) -> tuple[EquivalenceCheck, ...]:
    """Check an export again, and write the result beside the files again.

    Args:
        folder: an export.
        subject: the model that it was made for; by default it is loaded as it was then.

    Raises:
        ExportError: the folder is not an export, or a file in it has changed.
        VerificationError: the model is another one, or the files don't do what the hook does.

    Example:
        >>> verify_export("nowhere")
        Traceback (most recent call last):
        neurodial.errors.ExportError: nowhere is not an export. ...
    """
    place = Path(folder)
    manifest = read_manifest(place)
    changed = changed_files(place, manifest)
    if changed:
        raise VerificationError(
            f"{', '.join(changed)} in {place} changed since the export.", fix="Export again, or fetch it again."
        )
    model = subject if subject is not None else reload(manifest)
    differing = differences(manifest, model)
    if differing:
        raise VerificationError(
            f"{place} was made for {manifest.base.label}, not for {model.label}: {'; '.join(differing)} differ.",
            wanted="the model that it was made for",
            fix="Name it with --model, and its adapter with --adapter.",
        )
    scales = read_scales(place, manifest)
    expected = reference(model, scales, _prompts(), export_format(manifest.route).strengths)
    checks = _compare(model, manifest, place, expected)
    _write_verification(place, manifest, checks)
    return checks


def reload(manifest: Manifest) -> Subject:
    """The model that an export was made for, loaded as it was then."""
    dtype = str(manifest.base.identity["dtype"])
    label = manifest.base.label
    adapter = None if manifest.adapter is None or label == "demo" else manifest.adapter.path
    return load(label, adapter=adapter, dtype=dtype)


def _prompts() -> Sequence[Prompt]:
    return read_prompt_list("diverse").prompts[:PROMPTS]


def _dtype(subject: Subject) -> str:
    return str(subject.dtype).removeprefix("torch.")


def _compare(subject: Subject, manifest: Manifest, folder: Path, expected: Reference) -> tuple[EquivalenceCheck, ...]:
    checks = []
    with export_format(manifest.route).load(subject, manifest, folder) as loaded:
        for strength in expected.steered:
            loaded.set_strength(strength)
            measured = log_probabilities(loaded.model, expected.tokens)
            checks.append(compare(measured, expected, strength, engine=loaded.engine, precision=manifest.precision))
    failed = [check for check in checks if not check.agrees]
    if failed:
        raise _disagree(manifest, failed[0])
    return tuple(checks)


def _disagree(manifest: Manifest, check: EquivalenceCheck) -> VerificationError:
    numbers = (
        f"at strength {check.strength:g} files and hook differ by up to {check.difference:.2g} nats, "
        f"hook and unsteered model by up to {check.effect:.2g}"
    )
    drowned = check.difference <= check.tolerance
    return VerificationError(
        f"The {manifest.route} files don't show the circuit: {numbers}.",
        wanted=f"at most {check.tolerance:g} ({manifest.precision}), and a quarter of the effect",
        fix=(
            "The effect is too small to tell from rounding: load the model with --dtype float32, or turn the dial up."
            if drowned
            else "Nothing was kept; please report this with the model and the format."
        ),
    )


def _write_verification(folder: Path, manifest: Manifest, checks: Sequence[EquivalenceCheck]) -> None:
    value = {
        "format": "neurodial.verification",
        "version": 1,
        "route": manifest.route,
        "precision": manifest.precision,
        "prompts": {"list": "diverse", "hash": read_prompt_list("diverse").hash, "first": PROMPTS},
        "unit": "nats; files against hook, hook against unsteered model; largest over all places and tokens",
        "comparisons": [dataclasses.asdict(check) for check in checks],
        "versions": versions(),
        "created": now(),
    }
    write_atomic(folder / VERIFICATION, json.dumps(value, indent=1) + "\n", overwrite=True)
