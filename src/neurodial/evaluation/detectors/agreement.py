"""Scoring a detector against answers that people labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from neurodial.errors import PromptError
from neurodial.evaluation.detectors.base import Detector, Exchange, Verdict
from neurodial.evaluation.intervals import Estimate, kappa, wilson
from neurodial.prompts.read import read_rows

_LABELS = {
    **dict.fromkeys(
        ("shown", "refuse", "refusal", "refused", "yes", "true", "1", "full_refusal", "1_full_refusal"), "shown"
    ),
    **dict.fromkeys(("absent", "comply", "compliance", "complied", "no", "false", "0", "full_compliance"), "absent"),
    **dict.fromkeys(("1_full_compliance",), "absent"),
    **dict.fromkeys(("partial", "partial_refusal", "3_partial_refusal"), "partial"),
    **dict.fromkeys(("2_full_refusal",), "shown"),
    "degenerate": "degenerate",
}


@dataclass(frozen=True)
class Labelled:
    """An answer and what people say of it: shown, absent, partial or degenerate."""

    exchange: Exchange
    label: str
    split: str | None = None


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
        kappa: agreement beyond chance, partial ones and failed verdicts left out.
        wrong: the answers it gets wrong, with its verdict.
    """

    detector: str
    confusion: dict[tuple[str, str], int]
    accuracy: Estimate
    precision: Estimate
    recall: Estimate
    false_alarms: Estimate
    degenerate: Estimate
    kappa: float
    wrong: tuple[tuple[Labelled, Verdict], ...]


def shipped_answers(split: str | None = None) -> tuple[Labelled, ...]:
    """The labelled answers that ship with the package: `tuning`, `test`, or all.

    Example:
        >>> len(shipped_answers()) >= 300
        True
    """
    path = Path(str(resources.files("neurodial.evaluation"))) / "data" / "labelled_answers.jsonl"
    return tuple(one for one in read_labelled(path) if split is None or one.split == split)


def read_labelled(path: Path) -> tuple[Labelled, ...]:
    """Labelled answers from JSONL or CSV with `prompt`, `answer` (or `response`, `completion`) and `label`.

    Raises:
        FileError: the file can't be read.
        PromptError: a row lacks a field or has a label that is not known; names the line.
    """
    found = []
    for place, row in read_rows(path):
        answer = next((row[key] for key in ("answer", "response", "completion") if isinstance(row.get(key), str)), None)
        label = _LABELS.get(str(row.get("label", "")).strip().casefold())
        if answer is None or label is None or not isinstance(row.get("prompt"), str):
            raise PromptError(
                f"{place} is no labelled answer.",
                wanted=f"prompt, answer, and a label of {', '.join(sorted(set(_LABELS)))}",
            )
        found.append(Labelled(Exchange(row["prompt"], answer), label, row.get("split")))
    if not found:
        raise PromptError(f"{path} holds no labelled answers.", wanted="at least one")
    return tuple(found)


def check(detector: Detector, answers: Sequence[Labelled]) -> Check:
    """Score a detector.

    Example:
        >>> from neurodial.evaluation.detectors.registry import detector
        >>> check(detector("refusal"), shipped_answers("test")).recall.n
        55
    """
    verdicts = detector.judge([one.exchange for one in answers])
    pairs = list(zip(answers, verdicts, strict=True))
    table: Counter[tuple[str, str]] = Counter((one.label, verdict.label) for one, verdict in pairs)

    def share(rows: list[tuple[str, str]], total: list[tuple[str, str]]) -> Estimate:
        return wilson(sum(table[row] for row in rows), sum(table[row] for row in total))

    firm = ("shown", "absent", "degenerate")
    everything = [(label, verdict) for label in firm for verdict in firm]
    called = [(label, "shown") for label in firm]
    clear = [
        (one.label, verdict.label) for one, verdict in pairs if one.label != "partial" and verdict.label != "failed"
    ]
    return Check(
        detector=detector.name,
        confusion=dict(table),
        accuracy=share([(label, label) for label in firm], everything),
        precision=share([("shown", "shown")], called),
        recall=share([("shown", "shown")], [("shown", verdict) for verdict in firm]),
        false_alarms=share([("absent", "shown")], [("absent", verdict) for verdict in firm]),
        degenerate=share([("degenerate", "degenerate")], [("degenerate", verdict) for verdict in firm]),
        kappa=kappa([a for a, _ in clear], [b for _, b in clear]) if clear else float("nan"),
        wrong=tuple(
            (one, v) for one, v in pairs if one.label in {"shown", "absent", "degenerate"} and v.label != one.label
        ),
    )
