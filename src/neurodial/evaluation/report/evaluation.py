"""An evaluation's report as a page, plots and files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from neurodial.evaluation.metrics import Metric, metric
from neurodial.evaluation.report.first_screen import first_screen, side_by_side
from neurodial.evaluation.report.html_page import write_page
from neurodial.evaluation.report.methods_text import methods_text
from neurodial.evaluation.report.page import Cell, Column, Copyable, Page, Section, SideBySide, Table
from neurodial.evaluation.results import ConditionResult, Report, report_json
from neurodial.evaluation.run_rows import GenerationRow
from neurodial.evaluation.store import Answers
from neurodial.files import write_atomic

_EXAMPLES = 4
_METHODS_SHOWN = 5
_QUALITY = ("perplexity", "surprise", "repetition", "distinct", "words", "unfinished")
_COST = ("kl", "degenerate", "brokenness", "opposite", "over_refusal", "accuracy", "right_log_likelihood")
_PARTLY = ("partial", "unknown")


def write_report(report: Report, folder: Path, answers: Answers, *, show_harmful: bool = False) -> tuple[Path, ...]:
    """Write report.json, report.html and the plots; earlier ones of the same folder are replaced.

    Raises:
        FileError: a file can't be written.
    """
    page = evaluation_page(report, answers)
    written = [write_atomic(folder / "report.json", report_json(report), overwrite=True)]
    written.append(write_page(page, folder / "report.html", show_harmful=show_harmful, overwrite=True))
    for figure in page.figures:
        drawn = figure.svg.replace("<svg ", '<svg color="#1c2430" ', 1)
        written.append(write_atomic(folder / f"{figure.name}.svg", drawn + "\n", overwrite=True))
    return tuple(written)


def evaluation_page(report: Report, answers: Answers | None = None) -> Page:
    """The page of a report; without its answers none are shown.

    Example:
        >>> unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, {}, {})
        >>> evaluation_page(Report("refusal", {"refusal": "Our rule."}, (unsteered,))).title
        'Steering refusal: what it did and what it cost'
    """
    answers = answers or Answers()
    sections = [
        Section("What a reader should know", text=tuple(_remarks(report))),
        Section("What steering did", tables=(_rates(report),)),
        Section("Against the unsteered model", tables=(_differences(report),)),
        Section("Method against method", tables=(_between(report),)),
        Section("What it cost", tables=(_table(report, _COST),)),
        Section("The text itself", tables=(_table(report, _QUALITY),)),
        Section("Every other number", tables=(_others(report),), folded=True),
        Section("Answers side by side", answers=tuple(_examples(report, answers))),
        Section("Methods", copyable=tuple(_methods(report))),
        Section("Agreement of the detectors", tables=(_agreement(report),), folded=True),
        Section("What was chosen for each method", tables=(_chosen(report),), folded=True),
    ]
    return Page(
        f"Steering {report.behaviour}: what it did and what it cost",
        first_screen(report, answers),
        tuple(section for section in sections if not section.is_empty),
        _about(report),
        tuple(_provenance(report)),
    )


def _about(report: Report) -> str:
    model = report.provenance.get("model", {})
    count = report.provenance.get("counts", {}).get("behaviour")
    parts = [str(model["label"]) if "label" in model else "", f"{count} test prompts a side" if count else ""]
    parts.append(str(report.provenance.get("created", ""))[:10])
    return " · ".join(part for part in parts if part)


def _remarks(report: Report) -> Iterable[str]:
    yield from report.notes
    for name, count in report.failed.items():
        if count:
            yield f"{name} gave no verdict on {count} answers; they are left out of its rates. Run again to ask again."


def _columns(report: Report, names: Iterable[str]) -> dict[str, Metric]:
    present = {name for condition in report.conditions for name in condition.metrics}
    return {name: metric(name, report.detectors) for name in names if name in present}


def _table(report: Report, names: Iterable[str]) -> Table:
    columns = _columns(report, names)
    if not columns:
        return Table((), ())
    heads = (Column("method"), Column("dial"), *(Column(m.title, m.explanation, m.is_share) for m in columns.values()))
    return Table(heads, tuple((*_who(c), *(c.metrics.get(name) for name in columns)) for c in report.conditions))


def _who(condition: ConditionResult) -> tuple[Cell, Cell]:
    return condition.label, f"{condition.dial:g}"


def _rates(report: Report) -> Table:
    first, *others = [f"rate:{name}" for name in report.detectors]
    return _table(report, [first, *_PARTLY, *others])


def _others(report: Report) -> Table:
    shown = {f"rate:{name}" for name in report.detectors} | {*_COST, *_QUALITY, *_PARTLY}
    return _table(report, sorted({name for c in report.conditions for name in c.metrics} - shown))


def _differences(report: Report) -> Table:
    names = [
        report.headline,
        "opposite",
        "degenerate",
        "over_refusal",
        "repetition",
        "accuracy",
        "right_log_likelihood",
    ]
    columns = _columns(report, names)
    if not columns:
        return Table((), ())
    note = (
        "Steered less unsteered on the same prompts, shares in points (percentage points). For shares Newcombe's "
        "interval and McNemar's exact test, for means a bootstrap over the pairs."
    )
    heads = (
        Column("method", note),
        Column("dial"),
        *(Column(m.title, m.explanation, m.is_share) for m in columns.values()),
    )
    return Table(
        heads, tuple((*_who(c), *(c.differences.get(name) for name in columns)) for c in report.conditions[1:])
    )


def _between(report: Report) -> Table:
    note = (
        "The second less the first in the number of the verdict, paired on the same prompts. Each pair is a test of "
        "its own: among many, one in twenty looks clear by chance."
    )
    is_share = any(pair.difference.p_value is not None for pair in report.comparisons)
    heads = (Column("first"), Column("second"), Column("second less first", note, is_share))
    return Table(heads, tuple((pair.first, pair.second, pair.difference) for pair in report.comparisons))


def _agreement(report: Report) -> Table:
    heads = (
        Column("first"),
        Column("second"),
        Column("kappa", "Cohen's kappa over all answers: 1 agreement, 0 no more than chance."),
        Column("answers"),
    )
    return Table(
        heads, tuple((a.first, a.second, None if math.isnan(a.kappa) else a.kappa, a.n) for a in report.agreement)
    )


def _chosen(report: Report) -> Table:
    detailed = {condition.label: condition.details for condition in report.conditions if condition.details}
    heads = (Column("method"), Column("setting", "Raw values; dial 1 stands for them."), Column("value"))
    rows = [(label, key, _plain(value)) for label, details in detailed.items() for key, value in details.items()]
    return Table(heads, tuple(rows))


def _plain(value: object) -> Cell:
    return value if isinstance(value, str | float) and not isinstance(value, bool) else str(value)


def _methods(report: Report) -> Iterable[Copyable]:
    yield Copyable("paragraph", methods_text(report))
    command = report.provenance.get("command")
    if command:
        yield Copyable("command that makes this run again", str(command), is_code=True)


def _examples(report: Report, answers: Answers) -> Iterable[SideBySide]:
    """The first few prompts of each set, under the unsteered model and each method at dial 1."""
    keys = [report.unsteered.key, *(condition.key for condition in report.at_full_dial()[:_METHODS_SHOWN])]
    labels = answers.labels(report.headline.removeprefix("rate:"))
    by_prompt: dict[tuple[str, int], list[GenerationRow]] = {}
    for row in answers.generations:
        if row.index < _EXAMPLES:
            by_prompt.setdefault((row.set, row.index), []).append(row)
    for _, rows in sorted(by_prompt.items()):
        group = side_by_side(report, rows, labels, keys)
        if group is not None:
            yield group


def _provenance(report: Report) -> Iterable[tuple[str, str]]:
    for source in (report.provenance, report.settings):
        for key, value in source.items():
            text = json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list | tuple) else str(value)
            yield key.replace("_", " "), text
