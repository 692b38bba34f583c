"""An evaluation's report as a page, plots and files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from neurodial.evaluation.intervals import Estimate
from neurodial.evaluation.metrics import Metric, metric
from neurodial.evaluation.report.page import (
    Cell,
    Column,
    Figure,
    Page,
    Section,
    Shown,
    SideBySide,
    Table,
    write_page,
)
from neurodial.evaluation.report.plots import Series, lines, scatter
from neurodial.evaluation.results import ConditionResult, Report, report_json
from neurodial.evaluation.store import ResultRow
from neurodial.files import write_atomic

_EXAMPLES = 4
_QUALITY = ("perplexity", "repetition", "distinct", "words", "unfinished")
_COST = ("kl", "opposite", "over_refusal", "degenerate", "accuracy", "right_log_likelihood")


def write_report(
    report: Report, folder: Path, generations: Sequence[ResultRow], *, show_harmful: bool = False
) -> tuple[Path, ...]:
    """Write report.json, report.html and the plots; earlier ones of the same folder are replaced.

    Raises:
        FileError: a file can't be written.
    """
    page = evaluation_page(report, generations)
    figures = [figure for section in page.sections for figure in section.figures]
    written = [write_atomic(folder / "report.json", report_json(report), overwrite=True)]
    written.append(write_page(page, folder / "report.html", show_harmful=show_harmful, overwrite=True))
    for figure in figures:
        drawn = figure.svg.replace("<svg ", '<svg color="#1c2430" ', 1)
        written.append(write_atomic(folder / f"{figure.name}.svg", drawn + "\n", overwrite=True))
    return tuple(written)


def evaluation_page(report: Report, generations: Sequence[ResultRow] = ()) -> Page:
    """The page of a report.

    Example:
        >>> unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, {}, {})
        >>> evaluation_page(Report("refusal", {"refusal": "Our rule."}, (unsteered,))).title
        'Steering refusal: what it did and what it cost'
    """
    sections = [
        Section("What steering did", tables=(_rates(report),), figures=tuple(_dial_plot(report))),
        Section("Against the unsteered model", tables=(_differences(report),)),
        Section("What it cost", tables=(_table(report, _COST),), figures=tuple(_frontier_plot(report))),
        Section("The text itself", tables=(_table(report, _QUALITY),)),
        Section("Every other number", tables=(_others(report),)),
        Section("Agreement of the detectors", tables=(_agreement(report),), folded=True) if report.agreement else None,
        Section("What was chosen for each method", tables=(_chosen(report),)) if _chosen(report).rows else None,
        Section("Answers side by side", answers=tuple(_examples(report, generations))) if generations else None,
    ]
    return Page(
        f"Steering {report.behaviour}: what it did and what it cost",
        tuple(_lead(report)),
        tuple(section for section in sections if section is not None),
        tuple(_provenance(report)),
    )


def _lead(report: Report) -> Iterable[str]:
    """Words that follow from the numbers alone."""
    before = report.unsteered.metrics.get(report.headline)
    if before is not None:
        yield f"Unsteered, the model shows {report.behaviour} on {_share(before)} of the test prompts."
    for label, conditions in report.methods().items():
        condition = next((condition for condition in conditions if condition.dial == 1), conditions[-1])
        after, change = condition.metrics.get(report.headline), condition.differences.get(report.headline)
        if after is None or change is None:
            continue
        kl = condition.metrics.get("kl")
        cost = "" if kl is None else f", at {kl.value:.3f} nats per token of divergence on neutral text"
        is_clear = change.p_value is not None and change.p_value < 0.05
        verdict = "a change beyond chance" if is_clear else "no change beyond chance"
        yield f"{label} at dial {condition.dial:g}: {_share(after)}{cost} – {verdict} (McNemar p = {change.p_value:.2g})."
    yield from report.notes
    for name, count in report.failed.items():
        if count:
            yield f"{name} gave no verdict on {count} answers; they are left out of its rates. Run again to ask again."


def _share(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} [{estimate.low:.0%} to {estimate.high:.0%}, n = {estimate.n}]"


def _columns(report: Report, names: Iterable[str]) -> dict[str, Metric]:
    present = {name for condition in report.conditions for name in condition.metrics}
    return {name: metric(name, report.detectors) for name in names if name in present}


def _table(report: Report, names: Iterable[str]) -> Table:
    columns = _columns(report, names)
    heads = (Column("method"), Column("dial"), *(Column(m.title, m.explanation, m.is_share) for m in columns.values()))
    return Table(
        heads,
        tuple((*_who(condition), *(condition.metrics.get(n) for n in columns)) for condition in report.conditions),
    )


def _who(condition: ConditionResult) -> tuple[Cell, Cell]:
    return condition.label, f"{condition.dial:g}"


def _rates(report: Report) -> Table:
    return _table(report, [f"rate:{name}" for name in report.detectors])


def _others(report: Report) -> Table:
    shown = {f"rate:{name}" for name in report.detectors} | set(_COST) | set(_QUALITY)
    names = sorted({name for condition in report.conditions for name in condition.metrics} - shown)
    return _table(report, names)


def _differences(report: Report) -> Table:
    names = [report.headline, "opposite", "over_refusal", "repetition", "accuracy", "right_log_likelihood"]
    columns = _columns(report, names)
    note = (
        "Second minus first on the same prompts: steered less unsteered. For shares Newcombe's interval and McNemar's "
        "exact test, for means a bootstrap over the pairs."
    )
    heads = (Column("method", note), Column("dial"), *(Column(m.title, "", m.is_share) for m in columns.values()))
    rows = tuple(
        (*_who(condition), *(condition.differences.get(name) for name in columns))
        for condition in report.conditions[1:]
    )
    return Table(heads, rows)


def _agreement(report: Report) -> Table:
    heads = (
        Column("first"),
        Column("second"),
        Column("kappa", "Cohen's kappa over all answers: 1 agreement, 0 no more than chance."),
        Column("answers"),
    )
    rows = tuple((a.first, a.second, None if math.isnan(a.kappa) else a.kappa, a.n) for a in report.agreement)
    return Table(heads, rows)


def _chosen(report: Report) -> Table:
    seen = {condition.label: condition for condition in report.conditions if condition.details}
    heads = (Column("method"), Column("setting", "Raw values; dial 1 stands for them."), Column("value"))
    rows = [
        (condition.label, key, _plain(value)) for condition in seen.values() for key, value in condition.details.items()
    ]
    return Table(heads, tuple(rows))


def _plain(value: object) -> Cell:
    return value if isinstance(value, str | float) and not isinstance(value, bool) else str(value)


def _dial_plot(report: Report) -> Iterable[Figure]:
    series = []
    for label, conditions in report.methods().items():
        points = sorted([*conditions, report.unsteered], key=lambda condition: condition.dial)
        found = [
            (condition.dial, condition.metrics[report.headline])
            for condition in points
            if report.headline in condition.metrics
        ]
        series.append(
            Series(
                label,
                tuple(dial for dial, _ in found),
                tuple(e.value for _, e in found),
                tuple(e.low for _, e in found),
                tuple(e.high for _, e in found),
            )
        )
    if any(len(one.x) > 1 for one in series):
        svg = lines(series, x_label="dial", y_label=f"{report.behaviour} shown", is_share=True)
        yield Figure(svg, "Behaviour shown at each dial, with 95 % intervals; 0 is the unsteered model.", "dials")


def _frontier_plot(report: Report) -> Iterable[Figure]:
    series = []
    for label, conditions in report.methods().items():
        found = sorted(
            (condition.metrics["kl"].value, condition.metrics[report.headline])
            for condition in conditions
            if "kl" in condition.metrics and report.headline in condition.metrics and condition.dial > 0
        )
        if found:
            values = [e for _, e in found]
            xs = tuple(kl for kl, _ in found)
            low, high = tuple(e.low for e in values), tuple(e.high for e in values)
            series.append(Series(label, xs, tuple(e.value for e in values), low, high))
    if series:
        svg = scatter(
            series,
            x_label="KL on neutral answers (nats per token)",
            y_label=f"{report.behaviour} left",
            is_share=True,
            logarithmic=True,
        )
        text = "Behaviour left against damage done, dials above 0: down and to the left is better."
        yield Figure(svg, text, "frontier")


def _examples(report: Report, generations: Sequence[ResultRow]) -> Iterable[SideBySide]:
    """The first few prompts of each set, under the unsteered model and each method at its highest dial."""
    chosen = [("unsteered", "unsteered")]
    chosen += [(f"{label} @ {conditions[-1].dial:g}",) * 2 for label, conditions in report.methods().items()][:5]
    by_key: dict[tuple[str, int], dict[str, ResultRow]] = {}
    for row in generations:
        if row["index"] < _EXAMPLES:
            by_key.setdefault((row["set"], row["index"]), {})[row["arm"]] = row
    harmful = report.behaviour == "refusal" or next(iter(report.detectors)).startswith("refusal")
    for (asked, _), rows in sorted(by_key.items()):
        shown = tuple(Shown(label, rows[key]["answer"]) for key, label in chosen if key in rows)
        if shown:
            prompt = next(iter(rows.values()))["prompt"]
            yield SideBySide(prompt, shown, is_harmful=harmful and asked == "behaviour")


def _provenance(report: Report) -> Iterable[tuple[str, str]]:
    for source in (report.provenance, report.settings):
        for key, value in source.items():
            text = json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list | tuple) else str(value)
            yield key.replace("_", " "), text
