"""`neurodial export` and `neurodial verify`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from neurodial.cli.console import err, out, print_json, status, written
from neurodial.cli.model_options import ModelOptions
from neurodial.cli.options import WhichPrompts, read_circuits
from neurodial.cli.timed_parts import steps
from neurodial.errors import OptionError
from neurodial.export.formats import FORMATS, export_format, format_names

if TYPE_CHECKING:
    from neurodial.export.card import CardResult
    from neurodial.export.equivalence import EquivalenceCheck
    from neurodial.export.export_circuit import Export
    from neurodial.export.manifest import Manifest

    FormatName = str
else:
    FormatName = Literal[format_names()]  # the names in the list, so that --help shows them


def _formats_help() -> str:
    """The help of `--as`."""
    return "\n\n".join(["the form of the files.", *(f"{form.name}: {form.summary}" for form in FORMATS)])


def export(
    model: str,
    *arguments: str,
    circuit: Annotated[list[str] | None, Parameter(name=["--circuit", "-c"])] = None,
    as_: Annotated[FormatName, Parameter(name="--as", help=_formats_help())] = "lora",
    dial: float = 1.0,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: bool = False,
    report: Path | None = None,
    push: str | None = None,
    public: bool = False,
    json: bool = False,
    acting: WhichPrompts | None = None,
    loading: ModelOptions | None = None,
) -> None:
    """Write a circuit as files that other engines load, and check that they do what the hook does.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        arguments: the circuit's file, `[name=]file[@dial]`; several compose, their doses add.
        circuit: the same as an option.
        as_: the form of the files: one of `neurodial.export.formats`.
        dial: for circuits that name none of their own.
        output: the folder to make; by default NAME-FORMAT.
        force: replace an existing export, and accept a circuit of another model if the shape allows.
        report: of `neurodial evaluate` (its folder): the numbers of these circuits go into the card, in the Hub's form.
        push: upload to this repository of the Hub (user/name), private unless --public.
        public: let everybody see the repository.
        json: print the manifest and the checks as JSON.
        acting: files act on every prompt, so a circuit with a condition needs `--condition none`.
        loading: how the model is loaded.
    """
    from neurodial.files import refuse_folder

    prompts = acting or WhichPrompts()
    named = [(name, prompts.on(read), own) for name, read, own in read_circuits([*arguments, *(circuit or [])], dial)]
    if not named:
        raise OptionError("No circuit came.", wanted="a circuit's file: neurodial export MODEL CIRCUIT")
    target = output or Path(f"{'+'.join(name for name, _, _ in named)}-{as_}")
    refuse_folder(target, overwrite=force, mark="neurodial.json")
    results = [] if report is None else _results(report, [(name, strength) for name, _, strength in named])
    if push is not None:
        from neurodial.export.push import check_repository

        check_repository(push)
    parts = steps(err, f"loading {model}", f"writing {target} and checking that its files do what the hook does")
    subject = (loading or ModelOptions()).load(model, in_steps=parts)

    from neurodial.export.export_circuit import export_circuit
    from neurodial.intervention.scale import Scale

    scales = [Scale(dataclasses.replace(read, name=name), dial=strength, force=force) for name, read, strength in named]
    with parts.next():
        done = export_circuit(subject, scales, route=as_, output=target, overwrite=force)
    if results:
        from neurodial.export.card import add_results

        add_results(done.folder, done.manifest.name, results)
    _show(done, as_json=json)
    if push is not None:
        from neurodial.export.push import push as upload

        with status(f"uploading to {push}"):
            address = upload(target, push, public=public)
        err.print(f"uploaded: {address}")


def _results(path: Path, named: Sequence[tuple[str, float]]) -> list[CardResult]:
    """The numbers of a report on the circuits at their dials, and the same of the unsteered model.

    Raises:
        OptionError: the report has none of them.
    """
    from neurodial.evaluation.metrics import metric
    from neurodial.evaluation.results import read_report
    from neurodial.export.card import CardResult

    read = read_report(path)
    asked = [condition for condition in read.conditions if (condition.label, condition.dial) in named]
    if not asked:
        has = ", ".join(f"{condition.label}@{condition.dial:g}" for condition in read.conditions[1:])
        wanted = ", ".join(f"{name}@{dial:g}" for name, dial in named)
        raise OptionError(f"The report {path} has no numbers on {wanted}.", wanted=f"one of: {has}")
    results = []
    for condition in (read.unsteered, *asked):
        for number in (read.headline, "opposite", "kl", "degenerate"):
            estimate = condition.metrics.get(number)
            if estimate is not None and not math.isnan(estimate.value):
                shown = metric(number, read.detectors)
                scale = 100 if shown.is_share else 1
                ends = f"[{scale * estimate.low:.3g}, {scale * estimate.high:.3g}], n = {estimate.n}"
                title = f"{shown.title}, {condition.label} at dial {condition.dial:g}, 95 % {ends}"
                value = round(scale * estimate.value, 4)
                results.append(CardResult(number, title, value, f"{read.behaviour}, test prompts of neurodial"))
    return results


def verify(folder: Path, *, model: str | None = None, json: bool = False, loading: ModelOptions | None = None) -> None:
    """Check an export again: its files do what the hook does, and differ from the unsteered model.

    Args:
        folder: an export.
        model: the model that it was made for, if it can't be found where it was then.
        json: print the checks as JSON.
        loading: how the model is loaded.
    """
    from neurodial.cli.console import quiet_libraries
    from neurodial.export.export_circuit import verify_export
    from neurodial.export.manifest import read_manifest

    if model is None and loading is not None:
        raise OptionError("Options for loading came without --model.", wanted="--model MODEL with them")
    manifest = read_manifest(folder)
    quiet_libraries()
    subject = None if model is None else (loading or ModelOptions()).load(model)
    with status(f"checking {folder}"):
        checks = verify_export(folder, subject=subject)
    if json:
        print_json([dataclasses.asdict(check) for check in checks])
        return
    _show_checks(manifest, checks)


def _show(done: Export, *, as_json: bool) -> None:
    manifest = done.manifest
    if as_json:
        checks = [dataclasses.asdict(check) for check in done.checks]
        print_json({"folder": str(done.folder), **manifest.model_dump(mode="json"), "checks": checks})
        return
    dials = ", ".join(f"{circuit.name}@{circuit.dial:g}" for circuit in manifest.circuits)
    out.print(f"[bold]{manifest.route}[/bold] of {dials} for {manifest.base.label}")
    ranks = ", ".join(f"{layer}: {count}" for layer, count in manifest.ranks.items())
    out.print(f"neurons by layer: {ranks} (rank {manifest.rank})")
    if export_format(manifest.route).is_dialled:
        meaning = f"dial {manifest.strength:g}" if manifest.is_one_dial else "these dials together"
        out.print(f"strength 1 is {meaning}; strength 0 is the unsteered model")
    if manifest.adapter is not None:
        file = f" ({manifest.adapter.file})" if manifest.adapter.file else ""
        out.print(f"the model's own adapter goes along: {manifest.adapter.how}{file}")
        if manifest.adapter.types:
            types = ", ".join(f"{count} {way}" for way, count in manifest.adapter.types.items())
            out.print(f"types of the weights that it changed: {types}")
    for note in manifest.engines:
        out.print(f"  {'yes' if note['can'] else 'no ':3} {note['engine']}: {note['how']}")
    out.print()
    _show_checks(manifest, done.checks)
    written(done.folder, then=[("verify", done.folder)])


def _show_checks(manifest: Manifest, checks: Sequence[EquivalenceCheck]) -> None:
    table = Table("loaded by", "strength", "files against hook", "allowed", "hook against unsteered", box=None)
    for check in checks:
        table.add_row(
            check.engine,
            f"{check.strength:g}",
            f"{check.difference:.2g}",
            f"{check.tolerance:g}",
            f"{check.effect:.2g}",
        )
    out.print(table)
    out.print(
        f"largest differences of a log-probability, in nats, over {checks[0].prompts} prompts and "
        f"{checks[0].places} places, {manifest.precision}; the files do what the hook does"
    )
