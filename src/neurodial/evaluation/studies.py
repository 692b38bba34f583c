"""Studies: grids over many interventions on the machinery of one evaluation.

1. `sweep`: dial x number of neurons of one circuit.
2. `frontier`: every method over a dense grid of dials of both signs; behaviour left against damage done.
3. `transfer`: circuits of two models put on both, and how much they share.
4. `layers`: where a circuit sits, against circuits of the same method on shuffled sides.
Dense grids are measured by teacher-forced margin and KL alone; answers are made at a handful of points.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from neurodial.circuit.circuit import Circuit
from neurodial.circuit.compare import CircuitOverlap, compare
from neurodial.discovery import discover
from neurodial.errors import OptionError
from neurodial.evaluation.detectors.registry import function
from neurodial.evaluation.evaluate import evaluate
from neurodial.evaluation.options import Evaluation, check_dials
from neurodial.evaluation.results import Report
from neurodial.evaluation.task import lacks_detector, task_of
from neurodial.intervention.scale import Scale
from neurodial.methods.cna.options import CNA
from neurodial.methods.registry import Method
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast, PairSet

DENSE = (-2.0, -1.0, -0.5, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Dials of a dense grid, both signs."""
POINTS = (0.5, 1.0)
"""Dials at which answers are made."""


@dataclass(frozen=True)
class Grid:
    """What a study measures.

    Attributes:
        dense: dials measured by margin and KL.
        points: dials at which answers are made; empty for none.
        options: of the evaluation.
        folder: where rows are kept; None for memory only.
    """

    dense: tuple[float, ...] = DENSE
    points: tuple[float, ...] = POINTS
    options: Evaluation = Evaluation()  # noqa: RUF009  # a frozen value
    folder: Path | None = None

    def __post_init__(self) -> None:
        check_dials(self.dense)
        if self.points:
            check_dials(self.points)

    def part(self, name: str) -> Path | None:
        """The folder of one part."""
        return None if self.folder is None else self.folder / name

    def teacher_forced(self) -> Evaluation:
        """The options of the dense part."""
        return replace(self.options, answers=False, perplexity=0, questions=0, speed=False)


@dataclass(frozen=True)
class Study:
    """A dense report, and one with answers where points were asked for."""

    dense: Report
    answers: Report | None


def sweep(
    subject: Subject,
    circuit: Circuit,
    pairs: PairSet,
    counts: Sequence[int],
    *,
    grid: Grid | None = None,
    progress: Progress = silent,
) -> Study:
    """The circuit's best neurons, in several numbers, each at every dial.

    Raises:
        OptionError: a count is not from 1 to the circuit's size, or stands twice.
    """
    grid = grid or Grid()
    if not counts or len(set(counts)) != len(counts) or not all(1 <= count <= len(circuit) for count in counts):
        raise OptionError(f"The numbers of neurons are {list(counts)}.", wanted=f"each once, from 1 to {len(circuit)}")
    parts = [replace(circuit.top(count), name=f"{count} neurons") for count in counts]
    return _study(subject, parts, pairs, (), grid, progress)


def frontier(
    subject: Subject,
    circuits: Sequence[Circuit],
    pairs: PairSet,
    against: Sequence[str],
    *,
    grid: Grid | None = None,
    progress: Progress = silent,
) -> Study:
    """Every circuit and every other method over the grid."""
    return _study(subject, circuits, pairs, against, grid or Grid(), progress)


@dataclass(frozen=True)
class Transfer:
    """Circuits of two models put on both.

    Attributes:
        overlap: of the two circuits.
        reports: by (model the circuit was found on, model it is put on): 0 the first, 1 the second.
    """

    overlap: CircuitOverlap
    reports: Mapping[tuple[int, int], Report]


def transfer(
    subjects: tuple[Subject, Subject],
    pairs: PairSet,
    *,
    method: Method | None = None,
    grid: Grid | None = None,
    progress: Progress = silent,
) -> Transfer:
    """Find a circuit on each of two models of one shape, and put each on both.

    Raises:
        ModelMismatchError: the models have different neurons.
    """
    grid = grid or Grid()
    circuits = [discover(subject, pairs, method=method, progress=progress) for subject in subjects]
    reports = {}
    for source, circuit in enumerate(circuits):
        for target, subject in enumerate(subjects):
            named = replace(circuit, name=f"circuit of {subjects[source].label}")
            scales = [Scale(named, dial=dial, force=True) for dial in grid.points or grid.dense]
            part = grid.part(f"circuit-{source}-on-{target}")
            reports[source, target] = evaluate(
                subject, scales, pairs, options=grid.options, folder=part, progress=progress
            )
    return Transfer(compare(circuits[0], circuits[1]), reports)


@dataclass(frozen=True)
class LayerCount:
    """How many neurons of a circuit lie in a layer.

    Attributes:
        layer: which.
        found: the circuit's neurons there.
        expected: mean over circuits of the same method on shuffled sides.
        low: the smallest of those.
        high: the largest of those.
    """

    layer: int
    found: int
    expected: float
    low: int
    high: int


def layers(
    subject: Subject,
    contrast: Contrast,
    *,
    method: CNA | None = None,
    shuffles: int = 20,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[LayerCount, ...]:
    """Where a circuit sits, against the same method where the sides mean nothing.

    Raw differences of activation favour layers whose activations are large. Prompts dealt to the two sides at random
    have the same activations and no contrast, so their circuits show where size alone would put one.

    Raises:
        OptionError: fewer than one shuffle.
    """
    if shuffles < 1:
        raise OptionError(f"The number of shuffles is {shuffles}.", wanted="at least 1")
    method = method or CNA()
    circuit = discover(subject, contrast, method=method, progress=progress)
    bare = replace(method, folds=0)
    examples = [*contrast.positive, *contrast.negative]
    generator = random.Random(seed)
    null = []
    with progress("shuffling sides", shuffles) as advance:
        for _ in range(shuffles):
            generator.shuffle(examples)
            dealt = Contrast(tuple(examples[: len(contrast.positive)]), tuple(examples[len(contrast.positive) :]))
            null.append(discover(subject, dealt, method=bare))
            advance(1)
    rows = []
    for layer in range(subject.layers):
        counts = [len(other.in_layers([layer])) for other in null]
        mean = sum(counts) / len(counts)
        rows.append(LayerCount(layer, len(circuit.in_layers([layer])), mean, min(counts), max(counts)))
    return tuple(rows)


def token_plan(subject: Subject, pairs: PairSet, conditions: int, grid: Grid) -> dict[Literal["dense", "answers"], int]:
    """Tokens that a study runs through the model at most: prompts and answers, tuning left out.

    Args:
        subject: the model.
        pairs: the prompts.
        conditions: how many methods; each has all dials of the grid.
        grid: what is measured.
    """
    stand_in = (function(lambda _prompt, _answer: False),) if lacks_detector(pairs, grid.options) else ()
    task = task_of(pairs, grid.options, stand_in)
    prompts = {asked.name: sum(map(len, subject.render(asked.prompts))) for asked in task.asked}
    neutral = len(next((asked.prompts for asked in task.asked if asked.name == "neutral"), ()))
    scored = prompts["behaviour"] + prompts.get("neutral", 0) + neutral * grid.options.divergence_tokens
    count = sum(len(asked.prompts) for asked in task.asked)
    answered = sum(prompts.values()) + count * grid.options.decoding.max_new_tokens
    return {
        "dense": (1 + conditions * len(grid.dense)) * scored,
        "answers": (1 + conditions * len(grid.points)) * answered if grid.points else 0,
    }


def _study(
    subject: Subject,
    circuits: Sequence[Circuit],
    pairs: PairSet,
    against: Sequence[str],
    grid: Grid,
    progress: Progress,
) -> Study:
    def run(dials: tuple[float, ...], options: Evaluation, name: str, known: Mapping[str, Mapping[str, Any]]) -> Report:
        return evaluate(
            subject,
            [Scale(circuit, dial=dial) for circuit in circuits for dial in dials],
            pairs,
            against=against,
            options=options,
            folder=grid.part(name),
            known=known,
            progress=progress,
        )

    dense = run(grid.dense, grid.teacher_forced(), "dense", {})
    if not grid.points:
        return Study(dense, None)
    kept = [
        condition
        for condition in dense.conditions
        if condition.method in against and not condition.method.startswith("random")
    ]
    tuned = {condition.method: condition.details for condition in kept}
    return Study(dense, run(grid.points, grid.options, "answers", tuned))
