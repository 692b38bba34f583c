"""One run: what steering did, what it cost, against the other methods at their best.

1. Test prompts that discovery has seen are refused.
2. Comparators are tuned on the development split; their settings are stored.
3. Every arm answers every prompt; detectors judge the whole steered answers.
4. Divergence, margin, perplexity, multiple choice and speed are measured for every arm.
5. Numbers get intervals, and paired differences against the unsteered model on the same prompts.
Steps 2 to 4 keep finished rows in the folder: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from neurodial.errors import MarginError, OptionError
from neurodial.evaluation.answering import answer, judge, latest_verdicts
from neurodial.evaluation.arms import UNSTEERED, Arm, circuits_of, comparator_arms, identify, own_arms, refuse_seen
from neurodial.evaluation.comparators.methods import Comparison, check_names, comparators
from neurodial.evaluation.comparators.tuning import Bench
from neurodial.evaluation.detectors.base import UNCOUNTED, Detector
from neurodial.evaluation.harness import check_tasks, run_tasks
from neurodial.evaluation.measures import Bill, development_examples, measure, neutral_prompts, rows_by_arm
from neurodial.evaluation.metrics import differences, estimates, values_of
from neurodial.evaluation.options import Evaluation, HarnessOptions
from neurodial.evaluation.results import Agreement, ArmResult, Report
from neurodial.evaluation.statistics import kappa
from neurodial.evaluation.store import Store
from neurodial.evaluation.task import Margins, Task, margins_of, task_of
from neurodial.intervention.base import Intervention
from neurodial.measurement.divergence import own_answers
from neurodial.measurement.margin import Margin
from neurodial.measurement.options import Decoding
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast, PairSet
from neurodial.provenance import describe, now, sha256, versions


def evaluate(
    subject: Subject,
    interventions: Sequence[Intervention],
    prompts: PairSet | Contrast,
    *,
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
        subject: the model.
        interventions: each at one dial; the unsteered model is always measured beside them.
        prompts: a prompt set: its test split is reported on, its development split tunes comparators. Or a contrast
            to test on, without comparators.
        against: names of comparators, each measured at the same dials.
        options: what is measured, on how much, and how.
        detectors: further detectors, such as judges.
        margin: the behaviour's margin where it is known, such as `find_alternatives` gave; found here by default.
        folder: where rows are kept as they finish; the same call goes on where an earlier one stopped.
        known: what tuning chose for comparators before, by name, as in `ArmResult.details`; they are not tuned again.
        progress: shown while it runs.

    Returns:
        The report: every arm with intervals and paired differences.

    Raises:
        OverlapError: test prompts were used to discover a circuit.
        ModelMismatchError: a circuit was made on another model.
        UnknownNameError: no such comparator, detector or task.
        FileError: the folder belongs to another run.

    Example:
        >>> import neurodial as nd
        >>> from neurodial.circuit.circuit import Row
        >>> from neurodial.model.tiny import tiny_subject
        >>> circuit = nd.Circuit.of([Row(nd.Neuron(0, None, 3), 1.0, 1.0)], name="mine")
        >>> small = nd.Evaluation(decoding=nd.Decoding(max_new_tokens=2), neutral=2, over_refusal=0, perplexity=0)
        >>> contrast = nd.Contrast.of(["Rob a bank?"], ["Bake a cake?"])
        >>> report = nd.evaluate(tiny_subject(), [nd.Scale(circuit, dial=1.0)], contrast, options=small)
        >>> [(arm.label, arm.dial) for arm in report.arms]
        [('unsteered', 0.0), ('mine', 1.0)]
    """
    options = options or Evaluation()
    check_names(against)
    check_tasks(options.harness.tasks)
    task = task_of(prompts, options, detectors)
    if against and task.pairs is None:
        raise OptionError(
            "Comparators need a development split to be tuned on.", wanted="a whole prompt set, not one split"
        )
    own = own_arms(interventions)
    for intervention in interventions:
        intervention.compile(subject)  # says now, not after hours, that it does not fit the model
    refuse_seen(circuits_of(interventions), task.tested)
    store = Store(
        None if folder is None else Path(folder), _identity(subject, interventions, task, against, options, margin)
    )
    have = {row["method"] for row in store.rows("tuning")}
    store.append("tuning", [{"method": n, "details": dict(d)} for n, d in (known or {}).items() if n not in have])
    margins = _margins(subject, task, options, against, progress) if margin is None else Margins.of(margin)
    tuned = {row["method"] for row in store.rows("tuning")}
    is_tuned = all(name in tuned or name.startswith("random") for name in against)
    bench = None if is_tuned or margins.tuned is None else _bench(subject, task, margins.tuned, options, progress)
    arms = (UNSTEERED, *own, *_comparators(subject, task, own, against, options, bench, store, progress))
    if options.answers:
        answer(subject, task, arms, options, store, progress)
        judge(task.detectors, options, store, progress)
    measure(Bill(subject, task, arms, options, margins.reported), store, progress)
    _harness(subject, arms, options.harness, store, progress)
    return _report(subject, task, arms, options, store, margins.text)


def _identity(
    subject: Subject,
    interventions: Sequence[Intervention],
    task: Task,
    against: Sequence[str],
    options: Evaluation,
    margin: Margin | None,
) -> dict[str, object]:
    given = {} if margin is None else {"margin": describe(margin)}
    return {
        **given,
        "model": describe(subject.identity),
        "behaviour": task.behaviour.name,
        "prompts": task.hash,
        "interventions": [identify(intervention) for intervention in interventions],
        "against": list(against),
        "detectors": [detector.name for detector in task.detectors],
        "options": describe(options),
    }


def _margins(subject: Subject, task: Task, options: Evaluation, against: Sequence[str], progress: Progress) -> Margins:
    tunes = any(not name.startswith(("random", "prompt")) for name in against)
    if task.pairs is None or not (options.margin or tunes):
        return Margins(None, None, "not measured")
    try:
        return margins_of(subject, task.pairs, system=options.decoding.system, progress=progress)
    except MarginError:
        if tunes:
            raise
        return Margins(None, None, "not measured: no opening tells the two sides apart on this model")


def _bench(subject: Subject, task: Task, margin: Margin, options: Evaluation, progress: Progress) -> Bench:
    decoding = Decoding(max_new_tokens=options.divergence_tokens, batch_size=options.decoding.batch_size)
    neutral = neutral_prompts("development", options.development)
    passages = own_answers(subject, neutral, decoding=decoding, progress=progress)
    return Bench(subject, margin, development_examples(task, options.development), passages, options.kl_limit)


def _comparators(
    subject: Subject,
    task: Task,
    own: Sequence[Arm],
    against: Sequence[str],
    options: Evaluation,
    bench: Bench | None,
    store: Store,
    progress: Progress,
) -> list[Arm]:
    """Arms of every comparator, tuned once: its settings stand in the store."""
    if not against or task.pairs is None:
        return []
    dials = sorted({arm.dial for arm in own}) or [1.0]
    circuits = circuits_of([arm.intervention for arm in own if arm.intervention is not None])
    behaviour, discovery = task.behaviour, task.pairs.discovery
    circuit = circuits[0] if circuits else None
    comparison = Comparison(subject, discovery, behaviour, bench, circuit, options.seeds)
    tuned = {row["method"]: row["details"] for row in store.rows("tuning")}
    arms: list[Arm] = []
    for name in against:
        found = comparators(name, comparison, known=tuned.get(name), progress=progress)
        if name not in tuned and not name.startswith("random"):
            store.append("tuning", [{"method": name, "details": found[0].details}])
        arms += [arm for comparator in found for arm in comparator_arms(comparator, dials)]
    return arms


def _harness(subject: Subject, arms: Sequence[Arm], options: HarnessOptions, store: Store, progress: Progress) -> None:
    """Every task on every arm that changes the model itself; a system prompt is the harness's own matter."""
    finished = {(row["arm"], row["measure"]) for row in store.rows("measures")}
    pending = [
        (arm, task)
        for arm in arms
        for task in options.tasks
        if arm.system is None and (arm.key, f"harness:{task}") not in finished
    ]
    with progress("running tasks", len(pending)) as advance:
        for arm, task in pending:
            cache = store.file(f"cache-{sha256(arm.key)[:12]}")
            found = run_tasks(subject, arm.intervention, replace(options, tasks=(task,)), cache=cache)
            rows = [
                {**describe(one), "arm": arm.key, "measure": f"task:{one.task}", "metric": one.measure} for one in found
            ]
            store.append("measures", [*rows, {"arm": arm.key, "measure": f"harness:{task}"}])
            advance(1)


def _report(
    subject: Subject, task: Task, arms: Sequence[Arm], options: Evaluation, store: Store, margin_text: str
) -> Report:
    names = [detector.name for detector in task.detectors]
    measured = {arm.key: values_of(arm.key, names, store) for arm in arms}
    plain = measured[UNSTEERED.key]
    results = tuple(
        ArmResult(
            arm.method,
            arm.label,
            arm.dial,
            dict(arm.details),
            estimates(measured[arm.key]),
            {} if arm is UNSTEERED else differences(measured[arm.key], plain),
        )
        for arm in arms
    )
    latest = latest_verdicts(store)
    return Report(
        behaviour=task.behaviour.name,
        detectors={detector.name: detector.description for detector in task.detectors},
        arms=results,
        agreement=_agreement(names, store),
        failed={
            name: sum(key[0] == name and row["label"] == "failed" for key, row in latest.items()) for name in names
        },
        settings=describe(options) | {"margin_is": margin_text},
        provenance={
            "model": describe(subject.identity),
            "test_prompts": task.hash,
            "counts": {asked.name: len(asked.prompts) for asked in task.asked},
            "versions": versions(),
            "created": now(),
        },
        notes=tuple(_notes(arms, store, options)),
    )


def _agreement(names: Sequence[str], store: Store) -> tuple[Agreement, ...]:
    """Kappa of every pair, over all answers on which both gave a verdict."""
    labels: dict[str, dict[tuple[str, str, int], str]] = {name: {} for name in names}
    for (name, *row), verdict in latest_verdicts(store).items():
        if name in labels and verdict["label"] not in UNCOUNTED:
            labels[name][row[0], row[1], row[2]] = verdict["label"]  # type: ignore[index]
    found = []
    for first, second in combinations(names, 2):
        both = sorted(labels[first].keys() & labels[second].keys())
        if both:
            value = kappa([labels[first][key] for key in both], [labels[second][key] for key in both])
            found.append(Agreement(first, second, value, len(both)))
    return tuple(found)


def _notes(arms: Sequence[Arm], store: Store, options: Evaluation) -> list[str]:
    notes = [
        f"{arm.label}: no setting kept within {options.kl_limit:g} nats per token on the development split; the least "
        "costly one was taken."
        for arm in {arm.label: arm for arm in arms if arm.details.get("within_kl_limit") is False}.values()
    ]
    control = rows_by_arm(store).get(("unsteered", "control"))
    if control is not None and not control["above_chance"]:
        notes.append(
            "The multiple-choice set is not clearly above chance on this model: its accuracy says little here."
        )
    if control is not None and not control["shows_damage"]:
        notes.append("With a random tenth of the neurons off, the multiple-choice set shows no drop: it is blind here.")
    elif control is not None:
        notes.append(
            "Positive control: a random tenth of the neurons off changes multiple-choice accuracy by "
            f"{control['accuracy_drop']:+.1%} and the right answer's log-likelihood by "
            f"{control['likelihood_drop']:+.2f} nats per token."
        )
    return notes
