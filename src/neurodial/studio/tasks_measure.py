"""Jobs that measure and ship: evaluations, frontiers, exports; and the views of what they made."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from neurodial.errors import FileError, OptionError, UnknownNameError, near_names
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.frontier_area import frontier_figures
from neurodial.evaluation.metrics import metric
from neurodial.evaluation.options import Evaluation, check_dials
from neurodial.evaluation.report.evaluation import write_report
from neurodial.evaluation.results import Report
from neurodial.evaluation.store import Answers
from neurodial.evaluation.studies import Grid, frontier
from neurodial.export.export_circuit import export_circuit
from neurodial.export.manifest import MANIFEST, VERIFICATION, read_manifest
from neurodial.files import write_atomic
from neurodial.intervention.scale import Scale
from neurodial.methods.comparators import check_names
from neurodial.options import changed
from neurodial.provenance import canonical_json, describe, sha256
from neurodial.studio import requests
from neurodial.studio.jobs import Reporter, Run
from neurodial.studio.studio_state import StudioState

PARTS = {"report": "", "dense": "dense", "answers": "answers"}
"""Parts of a report by their id, and the folder of each: an evaluation has one, a frontier two."""


def measure(studio: StudioState, asked: requests.MeasurementRequest) -> Run:
    """An evaluation or a frontier. The same request goes on where an earlier one was stopped.

    Raises:
        UnknownNameError: a circuit, prompt set or method is not there.
        OptionError: the dials make no sense.
    """
    circuits = [dataclasses.replace(studio.collection.circuit(name), name=name) for name in asked.circuits]
    pairs = studio.collection.pairs(asked.prompts)
    dials = check_dials(asked.dials)
    against = check_names(asked.against)
    options = chosen_evaluation(asked)
    name, folder = measurement_place(studio, asked)

    def run(reporter: Reporter) -> dict[str, Any]:
        with reporter.stoppable(studio.subject):
            if asked.kind == "evaluate":
                scales = [Scale(circuit, dial=dial, force=studio.force) for circuit in circuits for dial in dials]
                report = evaluate(
                    studio.subject,
                    scales,
                    pairs,
                    against=against,
                    options=options,
                    folder=folder,
                    progress=reporter.progress,
                )
                write_part(report, folder, "report")
            else:
                points = tuple(dial for dial in dials if dial in {0.5, 1.0}) or (dials[-1],)
                grid = Grid(dials, points, options, folder)
                study = frontier(studio.subject, circuits, pairs, against, grid=grid, progress=reporter.progress)
                write_part(study.dense, folder, "dense")
                if study.answers is not None:
                    write_part(study.answers, folder, "answers")
        return {"report": name}

    return run


def chosen_evaluation(asked: requests.MeasurementRequest) -> Evaluation:
    """A quick evaluation with every option of the request in its place.

    Raises:
        OptionError: an option makes no sense.
    """
    return changed(Evaluation.quick(), asked.options.given())


def measurement_place(studio: StudioState, asked: requests.MeasurementRequest) -> tuple[str, Path]:
    """Id and folder of a measurement: the same request has the same, so it can go on."""
    told = [canonical_json({**asked.model_dump(), "options": describe(chosen_evaluation(asked))})]
    told.append(canonical_json(dataclasses.asdict(studio.subject.identity)))
    told += [sha256(repr(studio.collection.circuit(name).rows)) for name in asked.circuits]
    label = "evaluation" if asked.kind == "evaluate" else "frontier"
    name = f"{label}-{asked.prompts}-{sha256(canonical_json(told))[:8]}"[:79]
    return name, studio.collection.folder / "reports" / name


def write_part(report: Report, folder: Path, part: str) -> None:
    """Write a part of a report, as JSON and as a page, with the figures of a frontier."""
    place = folder / PARTS[part]
    write_report(report, place, Answers.read(place))
    if part == "dense":
        _write_figures(report, folder)


def _write_figures(report: Report, folder: Path) -> None:
    try:
        figures = frontier_figures(report)
    except OptionError:
        return  # a margin of whole answers has no rate: the tables say all there is
    text = json.dumps([dataclasses.asdict(figure) for figure in figures], indent=1)
    write_atomic(folder / "frontier.json", text + "\n", overwrite=True)


def report_parts(folder: Path) -> list[str]:
    """The parts of a report folder that are finished."""
    return [part for part, place in PARTS.items() if (folder / place / "report.json").is_file()]


def part_folder(folder: Path, part: str) -> Path:
    """The folder of one finished part.

    Raises:
        UnknownNameError: there is no such part.
    """
    if part not in report_parts(folder):
        raise UnknownNameError(f"There is no part {part[:40]!r}.", fix=near_names(part[:40], report_parts(folder)))
    return folder / PARTS[part]


def report_view(name: str, folder: Path, part: str) -> dict[str, Any]:
    """A report as the page compares it: conditions, numbers with intervals, and what each number means.

    Raises:
        FileError: the file can't be read.
    """
    path = part_folder(folder, part) / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"The report {name} can't be read: {error}.") from error
    names = list(dict.fromkeys(key for condition in report["arms"] for key in condition["metrics"]))
    figures = folder / "frontier.json"
    return {
        "id": name,
        "part": part,
        "behaviour": report["behaviour"],
        "headline": f"rate:{next(iter(report['detectors']))}",
        "created": report["provenance"].get("created", ""),
        "model": report["provenance"].get("model", {}).get("label", ""),
        "metrics": {key: dataclasses.asdict(metric(key, report["detectors"])) for key in names},
        "conditions": [
            {key: condition[key] for key in ("label", "dial", "metrics", "differences")} for condition in report["arms"]
        ],
        "notes": report["notes"],
        "figures": json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else None,
    }


def export(studio: StudioState, asked: requests.ExportRequest) -> Run:
    """Write circuits as files that other engines load, and check them.

    Raises:
        UnknownNameError: a circuit is not there.
        SteeringError: a circuit does not fit the model.
    """
    scales = [studio.scale(circuit) for circuit in asked.circuits]
    for scale in scales:
        scale.compile(studio.subject)

    def run(reporter: Reporter) -> dict[str, Any]:
        name, folder = studio.collection.new_export(f"{asked.name}-{asked.route}")
        with reporter.stoppable(studio.subject), reporter.progress("writing and checking", 1) as advance:
            export_circuit(studio.subject, scales, route=asked.route, output=folder)
            advance(1)
        return {"export": name}

    return run


def export_view(name: str, folder: Path) -> dict[str, Any]:
    """An export as the page shows it: what it is, its checks, what engines do with it, its files by number."""
    manifest = read_manifest(folder)
    verification = json.loads((folder / VERIFICATION).read_text(encoding="utf-8"))
    return {
        "id": name,
        "folder": str(folder.resolve()),
        "route": manifest.route,
        "strength": manifest.strength,
        "one_dial": manifest.is_one_dial,
        "rank": manifest.rank,
        "created": manifest.created,
        "base": manifest.base.label,
        "adapter": None if manifest.adapter is None else manifest.adapter.model_dump(),
        "circuits": [part.model_dump() for part in manifest.circuits],
        "engines": manifest.engines,
        "proof": {key: verification[key] for key in ("precision", "unit", "comparisons")},
        "files": [[str(path.relative_to(folder)), path.stat().st_size] for path in export_files(folder)],
    }


def export_files(folder: Path) -> list[Path]:
    """The files of an export, in the order that numbers them."""
    manifest = read_manifest(folder)
    names = sorted({*manifest.files, MANIFEST})
    inside = [folder / name for name in names]
    return [path for path in inside if path.is_file() and folder.resolve() in path.resolve().parents]
