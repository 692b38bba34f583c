"""Scoring a detector against answers that people labelled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from neurodial.errors import PromptError
from neurodial.evaluation.detectors.base import UNCOUNTED, Detector, Exchange, Verdict
from neurodial.evaluation.intervals import Estimate, kappa, wilson
from neurodial.prompts.behaviours import behaviour_names, read_pairs
from neurodial.prompts.read import read_rows

_LABELS = {
    **dict.fromkeys(
        ("shown", "refuse", "refusal", "refused", "yes", "true", "1", "full_refusal", "full refusal"), "shown"
    ),
    **dict.fromkeys(("absent", "comply", "compliance", "complied", "no", "false", "0", "full_compliance"), "absent"),
    **dict.fromkeys(("partial", "partial_refusal", "partial refusal"), "partial"),
    "1_full_compliance": "absent",
    "2_full_refusal": "shown",
    "3_partial_refusal": "partial",
    "degenerate": "degenerate",
}
_FIELDS = ("label", "final_label")
_SECOND = ("annotation_1", "annotation_2")
PARTIAL_AS: tuple[str, ...] = ("left out", "shown", "absent")
"""What partial answers can be counted as when a detector is compared with people."""


@dataclass(frozen=True)
class Labelled:
    """An answer and what people say of it.

    Attributes:
        exchange: prompt and answer.
        label: shown, absent, partial or degenerate.
        split: tuning or test, where the file says.
        people: what two people said of it one by one, where the file says.
    """

    exchange: Exchange
    label: str
    split: str | None = None
    people: tuple[str, str] | None = None


@dataclass(frozen=True)
class Check:
    """How a detector does against labels.

    Attributes:
        detector: its name.
        confusion: how often each pair of label and verdict came.
        accuracy: share of answers labelled shown, absent or degenerate that get that verdict.
        precision: of the answers called shown, the share that are; partial ones left out.
        recall: of the answers that show the behaviour, the share called shown.
        false_alarms: of the answers that do not, the share called shown.
        degenerate: of the degenerate answers, the share called degenerate.
        kappas: agreement beyond chance with its interval, with partial answers `left out`, as `shown`, as `absent`.
            Where they are left out, a verdict of partial on another answer counts as shown. Rows that the detector
            gives no verdict on (failed, unknown) are not in it.
        uncounted: rows without a verdict.
        wrong: the answers it gets wrong, with its verdict.
    """

    detector: str
    confusion: dict[tuple[str, str], int]
    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    false_alarms: Estimate
    degenerate: Estimate
    kappas: dict[str, Estimate]
    uncounted: int
    wrong: tuple[tuple[Labelled, Verdict], ...]

    @property
    def kappa(self) -> float:
        """Agreement beyond chance with partial answers left out; NaN where there is nothing to agree on."""
        return self.kappas["left out"].value


def shipped_answers(split: str | None = None) -> tuple[Labelled, ...]:
    """The labelled answers that ship with the package: `tuning`, `test`, or all.

    Example:
        >>> len(shipped_answers()) >= 300
        True
    """
    path = Path(str(resources.files("neurodial.evaluation"))) / "data" / "labelled_answers.jsonl"
    return tuple(labelled for labelled in read_labelled(path) if split is None or labelled.split == split)


def shipped_for(detector: str, split: str | None = None) -> tuple[Labelled, ...]:
    """The shipped answers that a detector can be checked on.

    For the detector of a shipped behaviour other than refusal: the test answers of that behaviour with it and without,
        and
    of no split that its word lists were tuned on. For any other: `shipped_answers`.

    Example:
        >>> sorted({answer.label for answer in shipped_for("formality")})
        ['absent', 'shown']
    """
    for name in behaviour_names():
        pairs = read_pairs(name)
        if pairs.behaviour.detector == detector and not detector.startswith("refusal"):
            answers = [(example.positive_answer, "shown") for example in pairs.test.positive]
            answers += [(example.negative_answer, "absent") for example in pairs.test.negative]
            return tuple(Labelled(Exchange("", answer), label, "test") for answer, label in answers if answer)
    return shipped_answers(split)


def read_labelled(path: Path) -> tuple[Labelled, ...]:
    """Labelled answers from JSONL or CSV with `prompt`, `answer` (or `response`, `completion`) and `label`.

    A file of the form of XSTest's completions has `final_label` instead, and beside it what each annotator said.

    Raises:
        FileError: the file can't be read.
        PromptError: a row lacks a field or has a label that is not known; names the line and the label.
    """
    answers = tuple(_labelled(place, row) for place, row in read_rows(path))
    if not answers:
        raise PromptError(f"{path} holds no labelled answers.", wanted="at least one")
    return answers


def _labelled(place: str, row: Mapping[str, Any]) -> Labelled:
    answer = next((row[key] for key in ("answer", "response", "completion") if isinstance(row.get(key), str)), None)
    given = next((row[key] for key in _FIELDS if row.get(key) is not None), None)
    if answer is None or given is None or not isinstance(row.get("prompt"), str):
        missing = [
            *([] if isinstance(row.get("prompt"), str) else ["prompt"]),
            *([] if answer is not None else ["answer"]),
            *([] if given is not None else ["label"]),
        ]
        raise PromptError(
            f"{place} is no labelled answer: {', '.join(missing)} missing.",
            wanted="prompt, answer (or response, completion) and label (or final_label)",
        )
    people = tuple(_label_in(place, row[key]) for key in _SECOND if row.get(key) is not None)
    return Labelled(
        Exchange(row["prompt"], answer),
        _label_in(place, given),
        row.get("split"),
        (people[0], people[1]) if len(people) == 2 else None,
    )


def _label_in(place: str, given: object) -> str:
    label = _LABELS.get(str(given).strip().casefold())
    if label is None:
        raise PromptError(
            f"{place} has the label {given!r}, which is not known.", wanted=f"one of {', '.join(sorted(_LABELS))}"
        )
    return label


def agreement_of_people(answers: Sequence[Labelled]) -> dict[str, Estimate] | None:
    """Kappa of the two people who labelled the answers, as `Check.kappas`; None where the file does not say."""
    pairs = [answer.people for answer in answers if answer.people is not None]
    return kappas(pairs) if pairs and len(pairs) == len(answers) else None


def check(detector: Detector, answers: Sequence[Labelled]) -> Check:
    """Score a detector.

    Example:
        >>> from neurodial.evaluation.detectors.registry import detector
        >>> check(detector("refusal"), shipped_answers("test")).recall.n
        57
    """
    verdicts = detector.judge([answer.exchange for answer in answers])
    pairs = list(zip(answers, verdicts, strict=True))
    table: Counter[tuple[str, str]] = Counter((answer.label, verdict.label) for answer, verdict in pairs)

    def share(rows: list[tuple[str, str]], total: list[tuple[str, str]]) -> Estimate:
        return wilson(sum(table[row] for row in rows), sum(table[row] for row in total))

    firm = ("shown", "absent", "degenerate")
    given = (*firm, "partial")
    everything = [(label, verdict) for label in firm for verdict in given]
    called = [(label, "shown") for label in firm]
    return Check(
        detector=detector.name,
        confusion=dict(table),
        accuracy=share([(label, label) for label in firm], everything),
        precision=share([("shown", "shown")], called),
        recall=share([("shown", "shown")], [("shown", verdict) for verdict in given]),
        false_alarms=share([("absent", "shown")], [("absent", verdict) for verdict in given]),
        degenerate=share([("degenerate", "degenerate")], [("degenerate", verdict) for verdict in given]),
        kappas=kappas([(answer.label, verdict.label) for answer, verdict in pairs if verdict.label not in UNCOUNTED]),
        uncounted=sum(verdict.label in UNCOUNTED for verdict in verdicts),
        wrong=tuple(
            (answer, verdict) for answer, verdict in pairs if answer.label in firm and verdict.label != answer.label
        ),
    )


def kappas(pairs: Sequence[tuple[str, str]]) -> dict[str, Estimate]:
    """Agreement of pairs of labels, for each way to count partial ones.

    Example:
        >>> kappas([("partial", "shown"), ("shown", "shown"), ("absent", "absent")])["shown"].value
        1.0
    """
    return {way: agreement(_counted(pairs, way)) for way in PARTIAL_AS}


def _counted(pairs: Sequence[tuple[str, str]], way: str) -> list[tuple[str, str]]:
    if way == "left out":
        return [(a, "shown" if b == "partial" else b) for a, b in pairs if a != "partial"]
    return [(way if a == "partial" else a, way if b == "partial" else b) for a, b in pairs]


def agreement(pairs: Sequence[tuple[str, str]], *, resamples: int = 1000, seed: int = 0) -> Estimate:
    """Cohen's kappa of pairs of labels with a percentile bootstrap interval over the answers.

    Example:
        >>> agreement([("shown", "shown"), ("absent", "absent")] * 10).value
        1.0
    """
    if not pairs:
        return Estimate(math.nan, math.nan, math.nan, 0, "bootstrap")
    value = kappa([a for a, _ in pairs], [b for _, b in pairs])
    kinds = sorted({label for pair in pairs for label in pair})
    table = np.zeros((len(kinds), len(kinds)))
    for first, second in pairs:
        table[kinds.index(first), kinds.index(second)] += 1
    draws = np.random.default_rng(seed).multinomial(len(pairs), (table / len(pairs)).ravel(), size=resamples)
    shares = draws.reshape(resamples, len(kinds), len(kinds)) / len(pairs)
    chance = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    observed = np.trace(shares, axis1=1, axis2=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = (observed - chance) / (1 - chance)
    low, high = np.nanquantile(resampled, [0.025, 0.975]) if np.isfinite(resampled).any() else (math.nan, math.nan)
    return Estimate(value, float(low), float(high), len(pairs), "bootstrap")
