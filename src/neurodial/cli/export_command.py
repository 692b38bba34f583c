"""`neurodial export` and `neurodial verify`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from neurodial.cli.console import err, out, print_json, status
from neurodial.cli.options import ModelOptions, read_circuits
from neurodial.errors import OptionError

if TYPE_CHECKING:
    from neurodial.export.evidence import Evidence
    from neurodial.export.export_circuit import Export
    from neurodial.export.manifest import Manifest

Route = Literal["lora", "ia3", "weights", "vllm", "gguf-lora", "gguf", "gguf-merged"]


def export(
    model: str,
    *arguments: str,
    circuit: Annotated[list[str] | None, Parameter(name=["--circuit", "-c"])] = None,
    as_: Annotated[Route, Parameter(name="--as")] = "lora",
    dial: float = 1.0,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: bool = False,
    push: str | None = None,
    public: bool = False,
    json: bool = False,
    loading: ModelOptions | None = None,
) -> None:
    """Write a circuit as files that other engines load, and prove that they do what the hook does.

    Args:
        model: Hub id, local folder, GGUF file, `demo` or `demo-base`.
        arguments: the circuit's file, `[name=]file[@dial]`; several compose, their doses add.
        circuit: the same as an option.
        as_: lora (PEFT, strength = dial), ia3 (PEFT, fixed), weights (the whole model), vllm (a LoRA and what the
            vLLM plugin needs), gguf-lora (llama.cpp, strength = dial), gguf (baked into MODEL, a GGUF file),
            gguf-merged (the same with MODEL's own adapter merged and quantised again: one file).
        dial: for circuits that name none of their own.
        output: the folder to make; by default NAME-ROUTE.
        force: replace an export that stands there, and take a circuit of another model if the shape allows.
        push: upload to this repository of the Hub (user/name), private unless --public.
        public: let everybody see the repository.
        json: print the manifest and the evidence as JSON.
        loading: how the model is loaded.
    """
    from neurodial.files import refuse_folder

    named = read_circuits([*arguments, *(circuit or [])], dial)
    if not named:
        raise OptionError("No circuit came.", wanted="a circuit's file: neurodial export MODEL CIRCUIT")
    target = output or Path(f"{'+'.join(name for name, _, _ in named)}-{as_}")
    refuse_folder(target, overwrite=force, mark="neurodial.json")
    if push is not None:
        from neurodial.export.push import check_repository

        check_repository(push)
    subject = (loading or ModelOptions()).load(model)

    from neurodial.export.export_circuit import export_circuit
    from neurodial.intervention.scale import Scale

    scales = [
        Scale(dataclasses.replace(found, name=name), dial=strength, force=force) for name, found, strength in named
    ]
    with status(f"writing and checking {target}"):
        done = export_circuit(subject, scales, route=as_, output=target, overwrite=force)
    _show(done, as_json=json)
    if push is not None:
        from neurodial.export.push import push as upload

        with status(f"uploading to {push}"):
            address = upload(target, push, public=public)
        err.print(f"uploaded: {address}")


def verify(folder: Path, *, model: str | None = None, json: bool = False, loading: ModelOptions | None = None) -> None:
    """Repeat the proof of an export: its files do what the hook does, and differ from the unsteered model.

    Args:
        folder: an export.
        model: the model that it was made for, where it can't be found as it was then.
        json: print the evidence as JSON.
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
        evidence = verify_export(folder, subject=subject)
    if json:
        print_json([dataclasses.asdict(one) for one in evidence])
        return
    _show_evidence(manifest, evidence)


def _show(done: Export, *, as_json: bool) -> None:
    manifest = done.manifest
    if as_json:
        evidence = [dataclasses.asdict(one) for one in done.evidence]
        print_json({"folder": str(done.folder), **manifest.model_dump(mode="json"), "evidence": evidence})
        return
    dials = ", ".join(f"{part.name}@{part.dial:g}" for part in manifest.circuits)
    out.print(f"[bold]{manifest.route}[/bold] of {dials} for {manifest.base.label}")
    ranks = ", ".join(f"{layer}: {count}" for layer, count in manifest.ranks.items())
    out.print(f"neurons by layer: {ranks} (rank {manifest.rank})")
    if manifest.route in {"lora", "vllm", "gguf-lora"}:
        meaning = f"dial {manifest.strength:g}" if manifest.is_one_dial else "these dials together"
        out.print(f"strength 1 is {meaning}; strength 0 is the unsteered model")
    if manifest.adapter is not None:
        file = f" ({manifest.adapter.file})" if manifest.adapter.file else ""
        out.print(f"the model's own adapter travels: {manifest.adapter.how}{file}")
        if manifest.adapter.types:
            types = ", ".join(f"{count} {way}" for way, count in manifest.adapter.types.items())
            out.print(f"types of the weights that it changed: {types}")
    for note in manifest.engines:
        out.print(f"  {'yes' if note['can'] else 'no ':3} {note['engine']}: {note['how']}")
    out.print()
    _show_evidence(manifest, done.evidence)
    err.print(f"\nwritten: {done.folder}")


def _show_evidence(manifest: Manifest, evidence: Sequence[Evidence]) -> None:
    table = Table("loaded by", "strength", "files against hook", "allowed", "hook against unsteered", box=None)
    for one in evidence:
        table.add_row(
            one.engine, f"{one.strength:g}", f"{one.difference:.2g}", f"{one.tolerance:g}", f"{one.effect:.2g}"
        )
    out.print(table)
    out.print(
        f"largest differences of a log-probability, in nats, over {evidence[0].prompts} prompts and "
        f"{evidence[0].places} places, {manifest.precision}; the files do what the hook does"
    )
