"""A first try of a behaviour on a model, in one go: look at the model, find neurons, steer, measure.

1. The unsteered model answers test prompts of both sides; what never shows can't be removed, and the try ends here.
2. Neurons are found on the first discovery and development prompts: by Dose, or by CNA where Dose can't measure the
   behaviour on this model.
3. The circuit at dial 1 and as many random neurons answer the same test prompts; what it costs is measured too.
Everything finished stays in the folder, and the same call goes on with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.controls import random_control
from neurodial.discovery import discover
from neurodial.errors import BudgetError, FileError, GradientError, MarginError, NeurodialError, PromptError
from neurodial.evaluation.detectors.base import Detector
from neurodial.evaluation.detectors.derived import derived_detector
from neurodial.evaluation.detectors.registry import shows_of
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.first_try_options import FirstTry
from neurodial.evaluation.marked_folder import MarkedFolder
from neurodial.evaluation.results import Report
from neurodial.evaluation.task import lacks_detector
from neurodial.intervention.scale import Scale
from neurodial.kept import keeping
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import PairSet
from neurodial.provenance import describe

LOOK = "unsteered"
"""The folder of the unsteered model's answers, below the try's own."""
PARTIAL = "partial"
"""The folder of finished pieces of a search that is not finished."""
REPORT = "report"
"""The folder of the report."""
Part = Callable[[], AbstractContextManager[None]]
"""Entered for each part of a try."""


@dataclass(frozen=True)
class TriedBehaviour:
    """What a first try found.

    Attributes:
        look: the report of the unsteered model alone.
        circuit: the neurons.
        report: of the evaluation; its notes say what was done otherwise than asked.
    """

    look: Report
    circuit: Circuit
    report: Report


def try_folder(folder: Path) -> MarkedFolder:
    """The folder with a try's marker."""
    return MarkedFolder(folder, "try")


def claim_try(folder: Path, identity: dict[str, Any], *, anew: bool = False) -> MarkedFolder:
    """Mark a folder as this try's; what an earlier call finished stays.

    Args:
        folder: new, empty, or a try's.
        identity: what the try is: the same values are the same try.
        anew: throw away what another try, or this one, left there.

    Raises:
        FileError: it holds something else, or another try.
    """
    marked = try_folder(folder)
    marked.refuse_foreign()
    before = marked.values
    if before is not None and (anew or not marked.record(identity).items() <= before.items()):
        if not anew:
            raise FileError(
                f"{folder} holds a try of another model, other prompts or other options.",
                wanted="the same command, to go on with it",
                fix="Choose another folder (-o), or say --force to begin anew.",
            )
        for name in (LOOK, PARTIAL, REPORT):
            shutil.rmtree(folder / name, ignore_errors=True)
        for path in folder.glob("*.circuit.json"):
            path.unlink()
        before = None
    if before is None:
        marked.mark(identity)
    return marked


def identity_of(subject: Subject, pairs: PairSet, options: FirstTry) -> dict[str, Any]:
    """What makes a try this one and no other."""
    behaviour = {"name": pairs.behaviour.name, "prompts": pairs.hash}
    return {"options": describe(options), "model": describe(subject.identity), "behaviour": behaviour}


def detectors_for(
    subject: Subject, pairs: PairSet, options: FirstTry, progress: Progress = silent
) -> Sequence[Detector]:
    """A detector derived from the prompts where none is named; else nothing, as the evaluation finds its own.

    Raises:
        OptionError: the sides' answers can't be told apart.
    """
    evaluation = options.looking
    if not lacks_detector(pairs, evaluation):
        return ()
    return (derived_detector(subject, pairs.first(options.found_on), decoding=evaluation.decoding, progress=progress),)


def look(
    subject: Subject,
    pairs: PairSet,
    options: FirstTry,
    folder: Path,
    *,
    detectors: Sequence[Detector] = (),
    progress: Progress = silent,
) -> Report:
    """How often the behaviour shows in the answers of the unsteered model.

    Args:
        subject: the model.
        pairs: the behaviour's prompts; those of the test split are answered.
        options: how much.
        folder: a try's; answers stay below it.
        detectors: further ones, such as one derived from the prompts.
        progress: shown while it runs.

    Raises:
        OptionError: nothing says how the behaviour is recognised.
    """
    return evaluate(
        subject,
        [],
        measured_side(pairs, options),
        options=options.looking,
        detectors=detectors,
        folder=folder / LOOK,
        progress=progress,
    )


def measured_side(pairs: PairSet, options: FirstTry) -> PairSet:
    """The set whose rate is measured on the prompts that the change is about."""
    if options.direction == "remove":
        return pairs
    other: Literal["positive", "negative"] = "negative" if pairs.behaviour.rate_on == "positive" else "positive"
    return replace(pairs, behaviour=replace(pairs.behaviour, rate_on=other))


def refuse_nothing_to_change(report: Report, options: FirstTry) -> None:
    """Refuse a behaviour that never shows where it should be removed, or always where it should be induced.

    Raises:
        PromptError: says how many answers were looked at, and what else to try.
    """
    rate = report.unsteered.metrics.get(report.headline)
    if rate is None or not rate.n:
        return
    if options.direction == "remove" and rate.value == 0:
        raise PromptError(
            f"{report.behaviour} shows in none of the {rate.n} unsteered answers{_broken(report)}: there is nothing to "
            "remove.",
            wanted="prompts to which this model answers with the behaviour",
            fix="Read the answers (--unsteered). Then give other prompts, or another detector (--detectors), or bring "
            "the behaviour about: --direction induce.",
        )
    if options.direction == "induce" and rate.value == 1:
        raise PromptError(
            f"{report.behaviour} shows in all {rate.n} unsteered answers already: there is nothing to induce.",
            wanted="prompts to which this model answers without the behaviour",
            fix="Read the answers (--unsteered), or take the behaviour away: --direction remove.",
        )


def _broken(report: Report) -> str:
    """How many of the unsteered answers are broken, where any is."""
    share = report.unsteered.metrics.get("degenerate")
    count = 0 if share is None or not share.n else round(share.value * share.n)
    return f" ({count} of them broken: empty, looping or gibberish)" if count else ""


def try_behaviour(
    subject: Subject,
    pairs: PairSet,
    options: FirstTry,
    folder: Path,
    *,
    anew: bool = False,
    progress: Progress = silent,
    part: Part = nullcontext,
) -> TriedBehaviour:
    """Look, find, steer, measure.

    Args:
        subject: the model.
        pairs: the behaviour's prompts, with a test split.
        options: how much, and in which direction.
        folder: where everything goes; an earlier, unfinished try of the same kind is gone on with.
        anew: begin anew, whatever try the folder holds.
        progress: shown while it runs.
        part: entered for each of three parts: looking, finding, and steering and measuring.

    Raises:
        FileError: the folder holds something else, or another try.
        OptionError: nothing says how the behaviour is recognised.
        PromptError: a split is missing, or there is nothing to change.
    """
    marked = claim_try(folder, identity_of(subject, pairs, options), anew=anew)
    with keeping(folder / PARTIAL, subject.identity):
        with part():
            detectors = detectors_for(subject, pairs, options, progress)
            seen = look(subject, pairs, options, folder, detectors=detectors, progress=progress)
            refuse_nothing_to_change(seen, options)
        with part():
            circuit, notes = _found(subject, pairs, options, marked, progress)
        control = replace(random_control(circuit, seed=0), name=f"{len(circuit)} random neurons")
        with part():
            report = evaluate(
                subject,
                [Scale(circuit), Scale(control)],
                measured_side(pairs, options),
                options=options.evaluation,
                detectors=detectors,
                folder=folder / REPORT,
                progress=progress,
            )
    return TriedBehaviour(seen, circuit, replace(report, notes=(*notes, *report.notes)))


def circuit_path(folder: Path, pairs: PairSet) -> Path:
    """Where a try's circuit goes."""
    return folder / f"{pairs.behaviour.name}.circuit.json"


def _found(
    subject: Subject, pairs: PairSet, options: FirstTry, marked: MarkedFolder, progress: Progress
) -> tuple[Circuit, tuple[str, ...]]:
    """The circuit, and a note where it is not of the method asked for; both of an earlier call if there are any."""
    path = circuit_path(marked.path, pairs)
    before = marked.values or {}
    if path.exists() and "notes" in before:
        return Circuit.read(path), tuple(before["notes"])
    few, name = pairs.first(options.found_on), pairs.behaviour.name
    notes: tuple[str, ...] = ()
    if options.method == "dose":
        try:
            shows = shows_of(few.behaviour)
            circuit = discover(subject, few, method=options.dose, shows=shows, name=name, progress=progress)
        except (MarginError, BudgetError, GradientError, PromptError) as error:
            circuit = _by_cna(subject, few, options, name, progress)
            notes = (_instead(error),)
    else:
        circuit = _by_cna(subject, few, options, name, progress)
    circuit.write(path, overwrite=True)
    marked.mark({**before, "notes": list(notes)})
    return circuit, notes


def _by_cna(subject: Subject, pairs: PairSet, options: FirstTry, name: str, progress: Progress) -> Circuit:
    """CNA's circuit; to induce, its neurons are doubled where they would be switched off."""
    circuit = discover(subject, pairs, method=options.cna, name=name, progress=progress)
    return circuit if options.direction == "remove" else replace(circuit.with_doses(-1.0), direction="induce")


def _instead(error: NeurodialError) -> str:
    return f"The circuit is of CNA, since Dose found none: {error.problem}"
