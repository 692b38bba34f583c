"""The main job from end to end on the demo model: discover twice, steer, measure, say what was found.

1. CNA with the paper's options, and Dose, on the discovery split (Dose's line search: on the development split).
2. `evaluate` on held-out test prompts: the CNA circuit at several dials, the Dose circuit at 1, and as many random
   neurons as CNA took at 1.
3. The two circuits and the random neurons against each other on the same prompts.
4. Words that follow from the numbers alone: the verdict, and at most five sentences beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.controls import random_control
from neurodial.discovery import discover
from neurodial.errors import NeurodialError, OptionError
from neurodial.evaluation.detectors.registry import shows_of
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.intervals import Estimate
from neurodial.evaluation.marked_folder import MarkedFolder
from neurodial.evaluation.options import Evaluation
from neurodial.evaluation.results import Report
from neurodial.evaluation.verdict import shown_change, verdict
from neurodial.generation.decoding import Decoding
from neurodial.intervention.scale import Scale
from neurodial.kept import keeping
from neurodial.methods.cna.options import CNA
from neurodial.methods.dose.options import Dose
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import PairSet
from neurodial.provenance import describe

ROWS = "rows"
PARTIAL = "partial"


@dataclass(frozen=True)
class Profile:
    """How much the demonstration does.

    Attributes:
        cna: how the CNA circuit is found.
        dose: how the Dose circuit is found.
        dials: of the CNA circuit; 1 must be among them.
        options: of the evaluation.
        found_on: discovery and development prompts of each side that circuits are found on, at most; None for all.
        control_seed: of the random neurons.
    """

    cna: CNA = field(default_factory=CNA)
    dose: Dose = field(default_factory=lambda: Dose(budget=0.03, folds=0, draws=1, passages=24, answer_tokens=24))
    dials: tuple[float, ...] = (-1.0, 1.0)
    options: Evaluation = field(
        default_factory=lambda: Evaluation(
            prompts=40,
            neutral=8,
            over_refusal=0,
            perplexity=4,
            divergence_tokens=32,
            speed=False,
            decoding=Decoding(max_new_tokens=32),
        )
    )
    found_on: int | None = None
    control_seed: int = 0

    def __post_init__(self) -> None:
        if 1.0 not in self.dials:
            raise OptionError(f"The dials are {self.dials}.", wanted="1 among them, to compare")


SHORT = Profile(
    dose=Dose(budget=0.03, folds=0, draws=1, passages=12, answer_tokens=12),
    dials=(1.0,),
    options=Evaluation(
        prompts=16,
        neutral=4,
        over_refusal=0,
        perplexity=2,
        speed=False,
        divergence_tokens=16,
        decoding=Decoding(max_new_tokens=24),
    ),
    found_on=24,
)
"""A profile for continuous integration: the same steps, fewer prompts, shorter answers."""


@dataclass(frozen=True)
class Demonstration:
    """All that the demonstration found.

    Attributes:
        circuits: CNA's, then Dose's where it found one.
        control: as many random neurons.
        report: of the evaluation; its notes hold the findings.
    """

    circuits: tuple[Circuit, ...]
    control: Circuit
    report: Report


def demonstrate(
    subject: Subject,
    pairs: PairSet,
    profile: Profile,
    folder: Path,
    *,
    progress: Progress = silent,
    part: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Demonstration:
    """Discover on the discovery split, steer and measure on the test split.

    Args:
        subject: the model.
        pairs: the behaviour's prompts.
        profile: how much.
        folder: where rows and circuits go. One that holds an unfinished demo of the same kind is gone on with; a
            finished demo is done again.
        progress: shown while it runs.
        part: entered for each of its three parts: CNA, Dose, and answering and measuring.

    Raises:
        FileError: the folder holds something else than a demo.
    """
    identity = {"profile": describe(profile), "model": describe(subject.identity)}
    claim(folder, identity)
    found_on = pairs if profile.found_on is None else pairs.first(profile.found_on)
    with keeping(folder / PARTIAL, subject.identity):
        circuits, missing = _circuits(subject, found_on, profile, progress, part)
    control = replace(random_control(circuits[0], seed=profile.control_seed), name=f"{len(circuits[0])} random neurons")
    interventions = [Scale(circuits[0], dial) for dial in profile.dials]
    interventions += [Scale(circuit, 1.0) for circuit in (*circuits[1:], control)]
    rows = folder / ROWS
    with part():
        report = evaluate(subject, interventions, pairs, options=profile.options, folder=rows, progress=progress)
    shown = Demonstration(circuits, control, report)
    said = (*missing, *findings(shown))
    shown = replace(shown, report=replace(report, notes=(*said, *report.notes)))
    for circuit in circuits:
        circuit.write(folder / f"{circuit.name}.circuit.json", overwrite=True)
    demo_folder(folder).mark({"finished": True, **identity, "findings": [verdict(report), *said]})
    return shown


def claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Mark a folder as this demo's; rows of a finished demo, and of another one, are thrown away.

    Raises:
        FileError: the folder holds something else than a demo.
    """
    marked = demo_folder(folder)
    marked.refuse_foreign()
    unfinished = {"finished": False, **identity}
    if marked.values != marked.record(unfinished):
        for name in (ROWS, PARTIAL):
            shutil.rmtree(folder / name, ignore_errors=True)
        marked.mark(unfinished)


def demo_folder(folder: Path) -> MarkedFolder:
    """The folder with the demo's marker."""
    return MarkedFolder(folder, "demo")


def _circuits(
    subject: Subject,
    pairs: PairSet,
    profile: Profile,
    progress: Progress,
    part: Callable[[], AbstractContextManager[None]],
) -> tuple[tuple[Circuit, ...], tuple[str, ...]]:
    """CNA's circuit and Dose's; a behaviour that Dose can't measure on this model leaves CNA's, and says so."""
    with part():
        circuits = [discover(subject, pairs, method=profile.cna, name="cna", progress=progress)]
    missing: tuple[str, ...] = ()
    with part():
        try:
            shows = shows_of(pairs.behaviour)
            circuits.append(discover(subject, pairs, method=profile.dose, shows=shows, name="dose", progress=progress))
        except NeurodialError as error:
            missing = (f"Dose found no circuit on this model: {error.problem}",)
    return tuple(circuits), missing


def findings(shown: Demonstration) -> list[str]:
    """What was found beside the verdict, in at most five sentences; each follows from the numbers."""
    said = [_where(shown.circuits), *_stability(shown.circuits), _against_chance(shown), _harmless(shown)]
    up = next((condition for condition in shown.report.methods()["cna"] if condition.dial < 0), None)
    if up is not None:
        rate = up.metrics[shown.report.headline]
        said.append(f"Turned the other way (cna at dial {up.dial:g}), it refuses {_share(rate)} of harmful requests.")
    return said


def _where(circuits: tuple[Circuit, ...]) -> str:
    """How many neurons of each circuit, out of how many, and where they lie."""
    picked = []
    for circuit in circuits:
        layers = {row.neuron.layer for row in circuit}
        picked.append(f"{circuit.name} picked {len(circuit)} in {len(layers)} layers")
    model = circuits[0].origin.model
    neurons, of_model = (model.neurons, len(model.widths)) if model else (0, 0)
    return f"Of {neurons:,} MLP neurons in {of_model} layers, {' and '.join(picked)}."


def _stability(circuits: tuple[Circuit, ...]) -> Iterator[str]:
    parts = [(c.name, c.stability) for c in circuits if c.stability is not None]
    if parts:
        kept = " and ".join(f"{stability.mean:.0%} of {name}'s" for name, stability in parts)
        folds = len(parts[0][1].overlaps)
        yield f"With one of {folds} parts of the prompts left out, {kept} neurons are chosen again on average."


def _against_chance(shown: Demonstration) -> str:
    control = shown.report.condition(shown.control.name, 1.0)
    said = []
    for circuit in shown.circuits:
        gap = shown.report.compared(control, shown.report.condition(circuit.name, 1.0))
        if gap is not None:
            fewer = "fewer" if gap.estimate.value < 0 else "more"
            verdict = fewer if gap.is_clear else "no clear difference"
            said.append(f"{verdict} under {circuit.name} ({shown_change(gap, shown.report.headline)})")
    return f"Refusals of harmful requests against {shown.control.name}: {', '.join(said)}."


def _harmless(shown: Demonstration) -> str:
    rates = [
        (circuit.name, shown.report.condition(circuit.name, 1.0).metrics["opposite"]) for circuit in shown.circuits
    ]
    under = ", ".join(f"{_share(rate)} under {name}" for name, rate in rates)
    return f"Refusals of harmless requests: {_share(shown.report.unsteered.metrics['opposite'])} unsteered, {under}."


def _share(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.0f} % [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
