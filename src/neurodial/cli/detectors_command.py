"""`neurodial detectors`: list them, or score them against labelled answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from neurodial.cli.console import out, print_json
from neurodial.cli.judge_options import JudgeOptions


def detectors(
    action: Literal["list", "check"] = "list",
    file: Path | None = None,
    *,
    detector: Annotated[list[str] | None, Parameter(name=["--detector", "-d"])] = None,
    split: str | None = None,
    wrong: int = 0,
    json: bool = False,
    judging: JudgeOptions | None = None,
) -> None:
    """List the detectors, or score them against answers that people labelled.

    Args:
        action: list, or check.
        file: labelled answers to check against: JSONL or CSV with prompt, answer and label (shown, absent, partial,
            degenerate; refuse and comply mean the first two). Without it, those that ship with neurodial.
        detector: a detector's name, repeatable; by default the refusal detectors.
        split: only answers of this split; the shipped ones have tuning and test.
        wrong: how many answers that each detector gets wrong to show.
        json: print JSON.
        judging: a judge to check beside them.
    """
    from neurodial.evaluation.detectors.agreement import check, read_labelled, shipped_answers
    from neurodial.evaluation.detectors.registry import detector as find
    from neurodial.evaluation.detectors.registry import detector_names, refusal_detectors

    if action == "list":
        rows = [(name, find(name).description) for name in detector_names()]
        if json:
            print_json([{"name": name, "description": text} for name, text in rows])
            return
        table = Table("detector", "what it looks at", box=None)
        for name, text in rows:
            table.add_row(name, text)
        out.print(table)
        return
    answers = shipped_answers() if file is None else read_labelled(file)
    chosen = [one for one in answers if split is None or one.split == split]
    judges = (judging or JudgeOptions()).judges()
    found = [check(one, chosen) for one in [*(map(find, detector or [])), *judges] or refusal_detectors()]
    if json:
        print_json([_plain(one) for one in found])
        return
    table = Table("detector", "accuracy", "recall", "false alarms", "precision", "degenerate seen", "kappa", box=None)
    for one in found:
        shares = (one.accuracy, one.recall, one.false_alarms, one.precision, one.degenerate)
        cells = [f"{e.value:.0%} [{e.low:.0%}, {e.high:.0%}]" if e.n else "–" for e in shares]
        table.add_row(one.detector, *cells, f"{one.kappa:.2f}")
    out.print(table)
    for one in found:
        for labelled, verdict in one.wrong[:wrong]:
            out.print(f"{one.detector}: {labelled.label} called {verdict.label}: {labelled.exchange.answer[:160]!r}")


def _plain(found: object) -> dict[str, object]:
    from neurodial.evaluation.detectors.agreement import Check

    assert isinstance(found, Check)  # noqa: S101  # the type is imported late, so that help is quick
    shares = {
        name: {"value": e.value, "low": e.low, "high": e.high, "n": e.n} if e.n else None
        for name, e in {
            "accuracy": found.accuracy,
            "precision": found.precision,
            "recall": found.recall,
            "false_alarms": found.false_alarms,
            "degenerate": found.degenerate,
        }.items()
    }
    confusion = [{"label": a, "verdict": b, "count": n} for (a, b), n in sorted(found.confusion.items())]
    agreement = None if found.kappa != found.kappa else found.kappa  # not a number
    return {"detector": found.detector, **shares, "kappa": agreement, "confusion": confusion}
