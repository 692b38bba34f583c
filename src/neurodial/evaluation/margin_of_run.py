"""By which margin a run searches and reports: the one that its circuits were found with, unless told otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neurodial.circuit.circuit import Circuit
from neurodial.errors import MarginError, OptionError
from neurodial.evaluation.options import Evaluation
from neurodial.evaluation.task import Task
from neurodial.margins.behaviour_margin import BehaviourMargin, recorded_margin
from neurodial.margins.choose_margin import choose_margin
from neurodial.margins.margin import Margin
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Direction
from neurodial.provenance import canonical_json


def direction_of(circuits: Sequence[Circuit]) -> Direction:
    """What dial 1 of some circuits does to the behaviour; to remove, where there is none or they differ."""
    directions = {circuit.direction for circuit in circuits}
    return directions.pop() if len(directions) == 1 else "remove"


def margin_of_run(
    subject: Subject,
    task: Task,
    circuits: Sequence[Circuit],
    options: Evaluation,
    *,
    given: Margin | None = None,
    is_needed: bool = False,
    progress: Progress = silent,
) -> tuple[BehaviourMargin | None, str]:
    """The margin of a run, and what is said of it.

    Args:
        subject: the model.
        task: what is measured.
        circuits: whose files may record a margin.
        options: which margin is asked for.
        given: a caller's own.
        is_needed: whether a strength is searched by it: then it is an error that there is none.
        progress: shown while it runs.

    Raises:
        OptionError: the circuits were found by different margins, and none is asked for.
        MarginError: it is needed, and nothing tells the two sides apart.
    """
    if given is not None:
        margin = BehaviourMargin.of(given)
        return margin, margin.text
    if task.pairs is None or (options.margin == "none" and not is_needed):
        return None, "not measured"
    try:
        margin = _margin(subject, task, circuits, options, progress)
    except MarginError as error:
        if is_needed:
            raise
        return None, f"not measured: {error.problem}"
    return (replace(margin, reported=None) if options.margin == "none" else margin), margin.text


def _margin(
    subject: Subject, task: Task, circuits: Sequence[Circuit], options: Evaluation, progress: Progress
) -> BehaviourMargin:
    pairs, system = task.pairs, options.decoding.system
    assert pairs is not None  # noqa: S101  # refused above
    if options.margin == "recorded":
        record = _recorded(subject, circuits)
        if record is not None:
            contrasts = [contrast for contrast in (pairs.get("development"), pairs.get("test")) if contrast is not None]
            margin = recorded_margin(record, subject, pairs.behaviour, contrasts, system=system, progress=progress)
            if margin is not None:
                return margin
    if pairs.get("discovery") is None:
        raise MarginError("There are no discovery prompts to find openings on.", wanted="a set with a discovery split")
    kind = "behaviour" if options.margin in {"recorded", "none"} else options.margin
    return choose_margin(
        subject,
        pairs,
        direction=direction_of(circuits),
        kind=kind,  # type: ignore[arg-type]  # what is left is a kind
        splits=("development",) if options.margin == "none" else ("development", "test"),
        system=system,
        progress=progress,
    )


def _recorded(subject: Subject, circuits: Sequence[Circuit]) -> dict[str, object] | None:
    """The one record of the circuits that were found with this tokenizer."""
    records: dict[str, tuple[str, dict[str, object]]] = {}
    for circuit in circuits:
        made_on = circuit.origin.model
        fits = made_on is None or made_on.tokenizer_hash == subject.identity.tokenizer_hash
        if circuit.origin.margin is not None and fits:
            record = dict(circuit.origin.margin)
            records.setdefault(canonical_json(record), (circuit.name, record))
    if len(records) > 1:
        listed = "; ".join(f"{name!r}: {record['kind']}" for name, record in records.values())
        raise OptionError(
            f"The circuits were found by different margins ({listed}).",
            wanted="one margin for a report, since what is compared by two can't be compared",
            fix="Say which to take (--margin behaviour, or Evaluation(margin=...)), or evaluate them apart.",
        )
    return next((record for _, record in records.values()), None)
