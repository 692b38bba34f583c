"""`neurodial detectors`: list them, or score them against labelled answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from neurodial.cli.console import out, print_json
from neurodial.cli.judge_options import JudgeOptions

if TYPE_CHECKING:
    from neurodial.evaluation.detectors.agreement import Check, Labelled
    from neurodial.evaluation.detectors.base import Detector
    from neurodial.evaluation.intervals import Estimate

_LANGUAGE = "language:"
_OWN = (
    ("regex:PATTERN", "The answer holds the pattern; capitals are ignored. regex:^(sorry|i can't)"),
    (
        "python:MODULE:FUNCTION",
        "Your own function in MODULE.py of the working folder: def FUNCTION(prompt: str, answer: str) -> bool.",
    ),
    ("length:N", "The answer has at most N words."),
    (
        "bare:NAME",
        "Any of these and those below; broken text (empty, looping, gibberish) is judged, too.",
    ),
    ("none named", "One is derived from the prompts: which side's answers does an answer look like?"),
)
_TOGETHER = "all files together"


def detectors(
    action: Literal["list", "check"] = "list",
    *files: Path,
    detector: Annotated[list[str] | None, Parameter(name=["--detector", "-d"])] = None,
    split: str | None = None,
    wrong: int = 0,
    json: bool = False,
    judging: JudgeOptions | None = None,
) -> None:
    """List the detectors, or score them against answers that people labelled.

    Args:
        action: list, or check.
        files: labelled answers to check against, each file by itself and all together: JSONL or CSV with prompt,
            answer (or response, completion) and label (or final_label): shown, absent, partial, degenerate; refusal and
            compliance, full_refusal and full_compliance mean the first two. Without a file, those that ship with
            neurodial: for refusal its own set, for another behaviour's detector the test answers of that behaviour.
        detector: a detector's name, repeatable; by default the refusal detectors.
        split: only answers of this split; the shipped ones have tuning and test.
        wrong: how many answers that each detector gets wrong to show.
        json: print JSON.
        judging: a judge to check beside them.
    """
    from neurodial.evaluation.detectors.registry import detector as find
    from neurodial.evaluation.detectors.registry import detector_names, refusal_detectors

    if action == "list":
        rows = [(name, find(name).description) for name in detector_names()]
        if json:
            print_json([{"name": name, "description": text} for name, text in rows])
        else:
            _list(rows)
        return
    judges = (judging or JudgeOptions()).judges()
    chosen: Sequence[Detector] = [*map(find, detector or []), *judges] or refusal_detectors()
    checks = [
        (name, answers, check)
        for name, answers, rule in _sets(files, chosen, split)
        for check in [_checked(rule, answers)]
    ]
    if json:
        print_json([_plain(name, answers, check) for name, answers, check in checks])
        return
    _show(checks)
    for name, _, check in checks:
        for labelled, verdict in check.wrong[:wrong]:
            text = labelled.exchange.answer[:160]
            out.print(f"{name}, {check.detector}: {labelled.label} called {verdict.label}: {text!r}", markup=False)


def _list(rows: Sequence[tuple[str, str]]) -> None:
    """What one can write oneself first, then what ships; languages in one row."""
    languages = [name.removeprefix(_LANGUAGE) for name, _ in rows if name.startswith(_LANGUAGE)]
    shipped = [row for row in rows if not row[0].startswith(_LANGUAGE)]
    shipped.append((f"{_LANGUAGE}XX", f"The answer is in the language XX, one of {', '.join(languages)}."))
    for title, listed in (("your own", _OWN), ("shipped", shipped)):
        table = Table(title, "what it looks at", box=None)
        for name, text in listed:
            table.add_row(Text(name), Text(text))
        out.print(table)
        out.print()
    out.print(Text("Commands take them by name: --detectors NAME, again for each further one."), style="dim")


def _sets(
    files: Sequence[Path], chosen: Sequence[Detector], split: str | None
) -> list[tuple[str, tuple[Labelled, ...], Detector]]:
    """Every set of answers with every detector that is checked on it."""
    from neurodial.evaluation.detectors.agreement import read_labelled, shipped_for

    if not files:
        return [("shipped answers", shipped_for(detector.name, split), detector) for detector in chosen]
    read = {
        str(path): tuple(answer for answer in read_labelled(path) if split is None or answer.split == split)
        for path in files
    }
    if len(files) > 1:
        read[_TOGETHER] = tuple(answer for answers in read.values() for answer in answers)
    return [(name, answers, detector) for name, answers in read.items() for detector in chosen]


def _checked(detector: Detector, answers: Sequence[Labelled]) -> Check:
    from neurodial.evaluation.detectors.agreement import check

    return check(detector, answers)


def _show(checks: Sequence[tuple[str, tuple[Labelled, ...], Check]]) -> None:
    from neurodial.evaluation.detectors.agreement import PARTIAL_AS, agreement_of_people

    seen: set[str] = set()
    for name, answers, check in checks:
        if name not in seen:
            seen.add(name)
            out.print(f"\n{name}, {len(answers)} answers", markup=False)
            people = agreement_of_people(answers)
            if people is not None:
                out.print("  the two people who labelled them: " + _in_words(people), markup=False)
        out.print(f"\n{check.detector}", markup=False)
        for way in PARTIAL_AS:
            if way == "left out" or any(answer.label == "partial" for answer in answers):
                out.print(f"  kappa, partial ones {way:8s} {_short(check.kappas[way])}", markup=False)
        shares = {"recall": check.recall, "false alarms": check.false_alarms, "precision": check.precision}
        shares |= {"degenerate seen": check.degenerate, "accuracy": check.accuracy}
        for title, value in shares.items():
            if value.n:
                out.print(f"  {title:22s} {value.value:.0%} [{value.low:.0%}, {value.high:.0%}]", markup=False)
        if check.uncounted:
            out.print(f"  without a verdict      {check.uncounted} (they count for nothing)", markup=False)
        out.print(_confusion(check))


def _confusion(check: Check) -> Table:
    order = ("shown", "partial", "absent", "degenerate", "failed", "unknown")
    labels = [label for label in order if any(pair[0] == label for pair in check.confusion)]
    verdicts = [verdict for verdict in order if any(pair[1] == verdict for pair in check.confusion)]
    table = Table("  label, verdict", *verdicts, box=None)
    for label in labels:
        table.add_row(f"  {label}", *(str(check.confusion.get((label, verdict), 0)) for verdict in verdicts))
    return table


def _short(value: Estimate) -> str:
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}] (n = {value.n})"


def _in_words(kappas: dict[str, Estimate]) -> str:
    return ", ".join(f"{value.value:.2f} with partial ones {way}" for way, value in kappas.items())


def _number(value: Estimate) -> dict[str, float | None] | None:
    numbers = {"value": value.value, "low": value.low, "high": value.high, "n": value.n}
    return {key: None if math.isnan(number) else number for key, number in numbers.items()} if value.n else None


def _plain(name: str, answers: Sequence[Labelled], check: Check) -> dict[str, object]:
    from neurodial.evaluation.detectors.agreement import agreement_of_people

    people = agreement_of_people(answers)
    return {
        "file": name.rsplit("/", 1)[-1],
        "answers": len(answers),
        "detector": check.detector,
        "accuracy": _number(check.accuracy),
        "precision": _number(check.precision),
        "recall": _number(check.recall),
        "false_alarms": _number(check.false_alarms),
        "degenerate": _number(check.degenerate),
        "kappa": None if math.isnan(check.kappa) else check.kappa,
        "kappas": {way: _number(value) for way, value in check.kappas.items()},
        "people": None if people is None else {way: _number(value) for way, value in people.items()},
        "uncounted": check.uncounted,
        "confusion": [{"label": a, "verdict": b, "count": n} for (a, b), n in sorted(check.confusion.items())],
    }
