"""One run: what steering did, what it cost, against the other methods at their best.

1. Test prompts that discovery has seen are refused.
2. The strength of other methods is searched on the development split; what was chosen is stored.
3. Every condition answers every prompt; detectors judge the whole steered answers.
4. Divergence, margin, perplexity, multiple choice and speed are measured for every condition.
5. Numbers get intervals, and paired differences against the unsteered model on the same prompts.
Steps 2 to 4 keep finished rows in the folder: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

from neurodial.errors import OptionError
from neurodial.evaluation.answering import answer, judge, latest_verdicts
from neurodial.evaluation.compared import ComparedMethods, needs_margin
from neurodial.evaluation.condition_values import differences, estimates, values_of
from neurodial.evaluation.conditions import (
    UNSTEERED,
    Condition,
    circuits_of,
    identify,
    own_conditions,
    refuse_seen,
)
from neurodial.evaluation.detectors.base import UNCOUNTED, Detector
from neurodial.evaluation.detectors.derived import derived_detector
from neurodial.evaluation.detectors.known_error import known_error
from neurodial.evaluation.harness import run_tasks
from neurodial.evaluation.in_engine import check_in_engine, engine_notes
from neurodial.evaluation.intervals import kappa, wilson
from neurodial.evaluation.margin_of_run import margin_of_run
from neurodial.evaluation.measures import MeasurementPlan, measure, rows_by_condition
from neurodial.evaluation.method_pairs import with_comparisons
from neurodial.evaluation.mmlu_run import check_benchmarks, harness_tasks, mmlu_notes, run_mmlu
from neurodial.evaluation.options import Evaluation, HarnessOptions
from neurodial.evaluation.results import Agreement, ConditionResult, Report
from neurodial.evaluation.run_rows import ControlRow, GenerationRow, MeasureRow, TaskRow, TuningRow
from neurodial.evaluation.store import Store
from neurodial.evaluation.task import Task, lacks_detector, task_of
from neurodial.generation.running_engine import MeasuringEngine, engine_of
from neurodial.intervention.base import Intervention
from neurodial.intervention.decide import acting
from neurodial.intervention.scale import template_notes
from neurodial.margins.margin import Margin
from neurodial.methods.comparators import check_names
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import FEW, Behaviour, Contrast, PairSet, Split
from neurodial.provenance import describe, now, setup_notes, sha256, versions


def evaluate(
    subject: Subject | MeasuringEngine,
    interventions: Sequence[Intervention],
    prompts: PairSet | Contrast,
    *,
    behaviour: Behaviour | None = None,
    against: Sequence[str] = (),
    options: Evaluation | None = None,
    detectors: Sequence[Detector] = (),
    margin: Margin | None = None,
    folder: Path | str | None = None,
    known: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress = silent,
) -> Report:
    """Measure what interventions do to a behaviour and what they cost.

    Args:
        subject: the model, or an engine that runs it (`VLLM`), which measures circuits at dials and random controls.
        interventions: each at one dial; the unsteered model is always measured beside them.
        prompts: a prompt set: its test split is reported on, strengths of other methods are searched on its development
            split. Or a contrast to test on, without other methods.
        behaviour: what a bare contrast is about; not needed where detectors are named.
        against: names of other methods, each measured at the same dials.
        options: what is measured, on how much, and how.
        detectors: further detectors, such as judges.
        margin: the behaviour's margin, where it is a caller's own; by default as `options.margin` says.
        folder: where rows are kept as they finish; the same call goes on where an earlier one stopped.
        known: what searches chose for other methods before, by name, as in `ConditionResult.details`; they are not
            searched again.
        progress: shown while it runs.

    Returns:
        The report: every condition with intervals and paired differences.

    Raises:
        OverlapError: test prompts were used to discover a circuit.
        ModelMismatchError: a circuit was made on another model.
        OptionError: nothing says how the behaviour is recognised, or circuits were found by different margins.
        UnknownNameError: no such method, detector or task.
        FileError: the folder belongs to another run.
        EngineError: the engine can't be used, or ended early.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.circuit.circuit import Row
        >>> from neurodial.model.tiny import tiny_subject
        >>> circuit = nd.Circuit.of([Row(nd.Neuron(0, None, 3), 1.0, 1.0)], name="mine")
        >>> small = nd.Evaluation(decoding=nd.Decoding(max_new_tokens=2), neutral=2, over_refusal=0, perplexity=0)
        >>> contrast = nd.Contrast.of(["Rob a bank?"], ["Bake a cake?"])
        >>> about = nd.Behaviour("theft", detector="refusal")
        >>> report = nd.evaluate(tiny_subject(), [nd.Scale(circuit)], contrast, behaviour=about, options=small)
        >>> [(condition.label, condition.dial) for condition in report.conditions]
        [('unsteered', 0.0), ('mine', 1.0)]
    """
    options = options or Evaluation()
    check_names(against)
    if isinstance(subject, MeasuringEngine):
        check_in_engine(interventions, against, options)
        with subject.running() as run_there:
            return evaluate(
                run_there,
                interventions,
                prompts,
                behaviour=behaviour,
                against=against,
                options=options,
                detectors=detectors,
                margin=margin,
                folder=folder,
                known=known,
                progress=progress,
            )
    check_benchmarks(options.harness)
    engine = engine_of(subject)
    if engine is not None:
        engine.accept(interventions)
        options = replace(options, speed=False)
    if isinstance(prompts, PairSet) and lacks_detector(prompts, options, detectors):
        detectors = (derived_detector(subject, prompts, decoding=options.decoding, progress=progress),)
    task = task_of(prompts, options, detectors, behaviour=behaviour)
    if against and task.pairs is None:
        raise OptionError(
            "The strength of other methods is searched on a development split.",
            wanted="a whole prompt set, not one split",
        )
    own = own_conditions(interventions)
    for intervention in interventions:
        intervention.compile(subject)  # says now, not after hours, that it does not fit the model
    circuits = circuits_of(interventions)
    refuse_seen(circuits, task.tested)
    store = Store(
        None if folder is None else Path(folder), _identity(subject, interventions, task, against, options, margin)
    )
    have = {row.method for row in store.rows(TuningRow)}
    store.append([TuningRow(name, dict(details)) for name, details in (known or {}).items() if name not in have])
    chosen_before = {row.method for row in store.rows(TuningRow)}
    run_margin, margin_text = margin_of_run(
        subject,
        task,
        circuits,
        options,
        given=margin,
        is_needed=needs_margin([name for name in against if name not in chosen_before]),
        progress=progress,
    )
    conditions: tuple[Condition, ...] = (UNSTEERED, *own)
    if task.pairs is not None:
        compared = ComparedMethods(subject, task.pairs, task.behaviour, own, options, run_margin, progress)
        conditions += tuple(compared.conditions(against, store))
    if options.answers:
        answer(subject, task, conditions, options, store, progress)
        judge(task.detectors, options, store, progress)
    reported = None if run_margin is None else run_margin.reported
    measure(MeasurementPlan(subject, task, conditions, options, reported), store, progress)
    run_mmlu(subject, conditions, options.harness, store, progress)
    _harness(subject, conditions, options.harness, store, progress)
    return _report(subject, task, conditions, options, store, margin_text)


def _identity(
    subject: Subject,
    interventions: Sequence[Intervention],
    task: Task,
    against: Sequence[str],
    options: Evaluation,
    margin: Margin | None,
) -> dict[str, object]:
    given = {} if margin is None else {"margin": describe(margin)}
    engine = engine_of(subject)
    return {
        **given,
        **({} if engine is None else {"engine": dict(engine.asked)}),
        "model": describe(subject.identity),
        "behaviour": task.behaviour.name,
        "prompts": task.hash,
        "interventions": [identify(intervention) for intervention in interventions],
        "against": list(against),
        "detectors": [detector.name for detector in task.detectors],
        "options": describe(options),
    }


def _harness(
    subject: Subject, conditions: Sequence[Condition], options: HarnessOptions, store: Store, progress: Progress
) -> None:
    """Every task on every condition that changes the model itself; a system prompt is the harness's own matter."""
    finished = {(row.condition, row.measure) for row in store.rows(MeasureRow)}
    pending = [
        (condition, task)
        for condition in conditions
        for task in harness_tasks(options)
        if condition.system is None and (condition.key, f"harness:{task}") not in finished
    ]
    with progress("running tasks", len(pending)) as advance:
        for condition, task in pending:
            cache = store.file(f"cache-{sha256(condition.key)[:12]}")
            results = run_tasks(subject, condition.intervention, replace(options, tasks=(task,)), cache=cache)
            rows = [
                TaskRow(
                    condition.key,
                    f"task:{result.task}",
                    result.task,
                    result.measure,
                    result.value,
                    result.stderr,
                    result.n,
                    result.version,
                )
                for result in results
            ]
            store.append([*rows, MeasureRow(condition.key, f"harness:{task}")])
            advance(1)


def _report(
    subject: Subject, task: Task, conditions: Sequence[Condition], options: Evaluation, store: Store, margin_text: str
) -> Report:
    names = [detector.name for detector in task.detectors]
    engine = engine_of(subject)
    measured = {condition.key: values_of(condition.key, names, store) for condition in conditions}
    plain = measured[UNSTEERED.key]
    results = tuple(
        ConditionResult(
            condition.method,
            condition.label,
            condition.dial,
            dict(condition.details),
            estimates(measured[condition.key]),
            {} if condition is UNSTEERED else differences(measured[condition.key], plain),
        )
        for condition in conditions
    )
    latest = latest_verdicts(store)
    report = Report(
        behaviour=task.behaviour.name,
        detectors={detector.name: detector.description for detector in task.detectors},
        conditions=results,
        agreement=_agreement(names, store),
        failed={name: sum(key[0] == name and row.label == "failed" for key, row in latest.items()) for name in names},
        settings=describe(options) | {"margin_is": margin_text},
        provenance={
            "detector_errors": {name: error.briefly for name in names if (error := known_error(name)) is not None},
            "model": describe(subject.identity),
            **({} if engine is None else {"engine": dict(engine.record)}),
            "test_prompts": task.hash,
            "counts": {asked.name: len(asked.prompts) for asked in task.asked},
            "splits": {} if task.pairs is None else _split_sizes(task.pairs),
            "versions": versions(),
            "created": now(),
        },
        notes=(
            *(task.pairs.notes if task.pairs is not None else ()),
            *_loading_notes(subject, conditions),
            *_few_notes(task),
            *_split_notes(options),
            *(() if engine is None else engine_notes(engine, options)),
            *_thinking_notes(subject, store),
            *_acting_notes(subject, task, conditions, options),
            *_notes(conditions, store, options),
        ),
    )
    return with_comparisons(report, measured)


def _few_notes(task: Task) -> list[str]:
    """How little so few prompts say, in points."""
    count = len(task.asked[0].prompts)
    if count >= FEW:
        return []
    half = wilson(count // 2, count)
    width = f"{100 * (half.high - half.low):.0f}"
    what = "1 prompt of the behaviour was" if count == 1 else f"{count} prompts of the behaviour were"
    return [f"{what} measured: the interval of a share is up to {width} points wide. More prompts tell more."]


def _split_notes(options: Evaluation) -> list[str]:
    if options.measured == "test":
        return []
    called = "what is called test prompts here is of that split"
    return [f"Measured on the development split, for choosing a dial: {called}. Report it on the test split."]


def _split_sizes(pairs: PairSet) -> dict[str, int]:
    """Pairs of prompts in each split, as far as there is one."""
    splits = {name: pairs.get(name) for name in get_args(Split)}
    return {name: len(contrast.positive) for name, contrast in splits.items() if contrast is not None}


def _agreement(names: Sequence[str], store: Store) -> tuple[Agreement, ...]:
    """Kappa of every pair, over all answers on which both gave a verdict."""
    labels: dict[str, dict[tuple[str, str, int], str]] = {name: {} for name in names}
    for (name, *row), verdict in latest_verdicts(store).items():
        if name in labels and verdict.label not in UNCOUNTED:
            labels[name][row[0], row[1], row[2]] = verdict.label  # type: ignore[index]
    agreements = []
    for first, second in combinations(names, 2):
        both = sorted(labels[first].keys() & labels[second].keys())
        if both:
            value = kappa([labels[first][key] for key in both], [labels[second][key] for key in both])
            agreements.append(Agreement(first, second, value, len(both)))
    return tuple(agreements)


def _loading_notes(subject: Subject, conditions: Sequence[Condition]) -> list[str]:
    """How the model was loaded and prompted, where a reader would not expect it."""
    circuits = circuits_of([condition.intervention for condition in conditions if condition.intervention is not None])
    return [*setup_notes(subject.setup), *dict.fromkeys(template_notes(circuits, subject))]


def _thinking_notes(subject: Subject, store: Store) -> list[str]:
    """How many answers had any thinking; nothing where none had and nothing marks any."""
    rows = store.rows(GenerationRow)
    thought = sum(row.thinking is not None for row in rows)
    if not thought and not subject.thinking:
        return []
    shown = " or ".join(f"{begin} … {end}" for begin, end in subject.thinking) or "markers found in the answers"
    endless = sum(row.endless for row in rows)
    cut = f"{endless} were cut off inside it" if endless else "none was cut off inside it"
    return [f"{thought} of {len(rows)} answers had thinking ({shown}); {cut}. What is judged is the answer after it."]


def _acting_notes(subject: Subject, task: Task, conditions: Sequence[Condition], options: Evaluation) -> Iterator[str]:
    """On how many of the test prompts each circuit with a condition acted."""
    steered = [condition.intervention for condition in conditions if condition.intervention is not None]
    circuits = list({(c.name, c.condition): c for c in circuits_of(steered) if c.condition is not None}.values())
    found: list[list[str]] = [[] for _ in circuits]
    for asked in task.asked if circuits else ():
        acts = acting(subject, circuits, asked.prompts, system=options.decoding.system)
        for parts, own in zip(found, acts, strict=True):
            parts.append(f"{sum(own)} of {len(own)} ({asked.name})")
    for circuit, parts in zip(circuits, found, strict=True):
        assert circuit.condition is not None  # noqa: S101  # they were chosen for it
        yield f"{circuit.name} acts only where a condition holds ({circuit.condition.text}): on {', '.join(parts)}."


def _notes(conditions: Sequence[Condition], store: Store, options: Evaluation) -> list[str]:
    notes = [
        f"{label}: no setting kept within {options.kl_limit:g} nats per token on the development split; the least "
        "costly one was taken."
        for label in dict.fromkeys(c.label for c in conditions if c.details.get("within_kl_limit") is False)
    ]
    control = rows_by_condition(store).get(("unsteered", "control"))
    return [*notes, *(_control_notes(control) if isinstance(control, ControlRow) else ()), *mmlu_notes(store)]


def _control_notes(control: ControlRow) -> Iterator[str]:
    if not control.above_chance:
        yield "The multiple-choice set is not clearly above chance on this model: its accuracy says little here."
    if not control.shows_damage:
        yield "With a random tenth of the neurons off, the multiple-choice set shows no drop: it is blind here."
    else:
        yield (
            "Positive control: a random tenth of the neurons off changes multiple-choice accuracy by "
            f"{100 * control.accuracy_drop:+.1f} points and the right answer's log-likelihood by "
            f"{control.likelihood_drop:+.2f} nats per token."
        )
