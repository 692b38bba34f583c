"""The first screen of a report: verdict, two or three numbers, two plots, three pairs of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neurodial.evaluation.intervals import Estimate
from neurodial.evaluation.metrics import metric
from neurodial.evaluation.report.figures import figures
from neurodial.evaluation.report.page import Badge, BadgeKind, FirstScreen, KeyNumber, Shown, SideBySide
from neurodial.evaluation.results import Report
from neurodial.evaluation.run_rows import GenerationRow
from neurodial.evaluation.store import Answers
from neurodial.evaluation.verdict import BestCondition, best_condition, number_name, shown_change, shown_value, verdict

_PAIRS = 3


def first_screen(report: Report, answers: Answers) -> FirstScreen:
    """What a reader sees before scrolling."""
    best = best_condition(report)
    return FirstScreen(
        verdict(report),
        () if best is None else tuple(_numbers(report, best)),
        figures(report),
        () if best is None else tuple(_pairs(report, answers, best.condition.key)),
    )


def is_harmful(report: Report) -> bool:
    """Whether answers to the behaviour's own prompts stay out of the page unless asked for."""
    return report.behaviour == "refusal" or next(iter(report.detectors)).startswith("refusal")


def side_by_side(
    report: Report, rows: Sequence[GenerationRow], labels: dict[tuple[str, str, int], str], conditions: Sequence[str]
) -> SideBySide | None:
    """One prompt under some conditions; None where fewer than two of them answered it."""
    by_condition = {row.condition: row for row in rows}
    present = [by_condition[key] for key in conditions if key in by_condition]
    if len(present) < 2:
        return None
    shown = tuple(Shown(row.condition, row.answer, badge(report, labels.get(row.place))) for row in present)
    return SideBySide(present[0].prompt, shown, is_harmful=is_harmful(report) and present[0].set == "behaviour")


def badge(report: Report, label: str | None) -> Badge | None:
    """What the headline detector says of an answer, in a word; None where it said nothing."""
    if label is None:
        return None
    is_refusal = next(iter(report.detectors)).startswith("refusal")
    words: dict[str, tuple[BadgeKind, str]] = {
        "shown": ("shown", "refused" if is_refusal else f"{report.behaviour} shown"),
        "partial": ("shown", "refused in part" if is_refusal else f"{report.behaviour} in part"),
        "absent": ("absent", "answered" if is_refusal else f"no {report.behaviour}"),
        "degenerate": ("broken", "broken"),
    }
    kind, text = words.get(label, ("other", "no verdict"))
    return Badge(kind, text)


def _numbers(report: Report, best: BestCondition) -> Iterator[KeyNumber]:
    explained = metric(best.number, report.detectors)
    yield KeyNumber(
        f"{number_name(report, best.number)}, {best.condition.label} at dial {best.condition.dial:g}",
        f"{shown_value(best.before.value, best.number)} → {shown_value(best.after.value, best.number)}",
        f"{shown_change(best.change, best.number)}, {_chance(best)}, n = {best.change.estimate.n}",
        f"{explained.explanation} Unsteered, then steered; the difference is paired on the same prompts, with its 95 % "
        "interval. Beyond chance: McNemar's exact test for shares, else an interval that leaves out 0.",
    )
    if best.cost is not None:
        yield KeyNumber(
            "cost on neutral text",
            f"{best.cost.value:.3g} nats per token",
            f"{_ends(best.cost)}, n = {best.cost.n}; limit of the search: {best.limit:g}",
            metric("kl").explanation,
        )
    before, after = (c.metrics.get("degenerate") for c in (report.unsteered, best.condition))
    change = best.condition.differences.get("degenerate")
    if before is not None and after is not None and change is not None:
        yield KeyNumber(
            "broken answers",
            f"{shown_value(before.value, 'degenerate')} → {shown_value(after.value, 'degenerate')}",
            f"{shown_change(change, 'degenerate')}, n = {after.n}",
            metric("degenerate").explanation,
        )


def _chance(best: BestCondition) -> str:
    p = best.change.p_value
    said = "beyond chance" if best.change.is_clear else "not beyond chance"
    return said if p is None else "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def _ends(estimate: Estimate) -> str:
    return f"{estimate.low:.2g} to {estimate.high:.2g}"


def _pairs(report: Report, answers: Answers, steered: str) -> Iterator[SideBySide]:
    """Unsteered beside steered: answers whose verdict changed first.

    Where the behaviour's own answers are left out, the last pair is of the other side, so that something is read.
    """
    labels = answers.labels(report.headline.removeprefix("rate:"))
    keys = [report.unsteered.key, steered]
    counts = [("behaviour", _PAIRS)]
    if is_harmful(report):
        counts = [("behaviour", _PAIRS - 1), ("opposite", 1)]
    for asked, count in counts:
        rows: dict[int, list[GenerationRow]] = {}
        for row in answers.generations:
            if row.set == asked and row.condition in keys:
                rows.setdefault(row.index, []).append(row)

        def unchanged(index: int, asked: str = asked) -> bool:
            return labels.get((keys[0], asked, index)) == labels.get((keys[1], asked, index))

        ordered = sorted(rows, key=lambda index: (unchanged(index), index))
        groups = [side_by_side(report, rows[index], labels, keys) for index in ordered]
        yield from [group for group in groups if group is not None][:count]
