"""Two reports against each other: the numbers of conditions that both have, and what else differs.

1. Conditions are the same where name and dial are.
2. Where both asked the same test prompts, a difference is given: paired on those prompts where the rows lie beside both
   reports, else from the two intervals, which is wider.
3. Every setting and every part of the provenance that differs is named; times are not compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurodial.evaluation.condition_values import Values, differences, values_of
from neurodial.evaluation.intervals import Difference, Estimate, unpaired
from neurodial.evaluation.metrics import metric
from neurodial.evaluation.report.page import Column, FirstScreen, Page, Section, Table
from neurodial.evaluation.results import ConditionResult, Report, read_report
from neurodial.evaluation.store import Store
from neurodial.evaluation.verdict import verdict

_NOT_COMPARED = {"created"}
_ROWS = ("", "rows")
"""Where rows lie in a report's folder: in it, or in a demo's inner folder."""


@dataclass(frozen=True)
class ReadReport:
    """A report, what it is called beside another, and its rows where they lie beside it."""

    name: str
    report: Report
    store: Store | None

    def values(self, condition: ConditionResult) -> Values | None:
        """What was measured under a condition, prompt by prompt; None without rows."""
        return None if self.store is None else values_of(condition.key, list(self.report.detectors), self.store)


@dataclass(frozen=True)
class ComparedNumber:
    """One number of one condition in both reports.

    Attributes:
        label: the condition's name.
        dial: its dial.
        name: of the metric.
        first: in the first report; None where it has none.
        second: in the second.
        difference: second less first; None where other prompts were asked.
    """

    label: str
    dial: float
    name: str
    first: Estimate | None
    second: Estimate | None
    difference: Difference | None


@dataclass(frozen=True)
class ReportComparison:
    """What two reports say, and where they differ.

    Attributes:
        names: of the two.
        verdicts: of the two.
        numbers: of the conditions that both have.
        detectors: of both, with their descriptions.
        same_prompts: whether both asked the same test prompts.
        paired: whether differences are paired prompt by prompt.
        alone: conditions that only one has, by the report's name.
        changes: settings and provenance that differ: place, first, second.
    """

    names: tuple[str, str]
    verdicts: tuple[str, str]
    numbers: tuple[ComparedNumber, ...]
    detectors: Mapping[str, str]
    same_prompts: bool
    paired: bool
    alone: Mapping[str, tuple[str, ...]]
    changes: tuple[tuple[str, str, str], ...]

    @property
    def summary(self) -> str:
        """One sentence."""
        count = len({(number.label, number.dial) for number in self.numbers})
        conditions = "1 condition" if count == 1 else f"{count} conditions"
        if not self.same_prompts:
            return (
                f"{self.names[0]} and {self.names[1]} asked different test prompts: their numbers stand side by side, "
                f"without differences, for {conditions} that both have."
            )
        differences = [number.difference for number in self.numbers if number.difference is not None]
        able = [difference for difference in differences if difference.estimate.has_interval]
        clear = sum(difference.is_clear for difference in able)
        how = "paired on the same prompts" if self.paired else "from both intervals, as rows are not at hand"
        return (
            f"Of {len(able)} numbers under {conditions} that {self.names[0]} and {self.names[1]} share, "
            f"{clear} differ beyond chance ({how}); one in twenty does by chance."
        )


def read_for_comparison(path: Path, name: str) -> ReadReport:
    """A report with its rows, where they lie beside it.

    Raises:
        FileError: there is no report, or its rows are not whole.
    """
    folder = path if path.is_dir() else path.parent
    places = [folder / inner for inner in _ROWS if (folder / inner / "run.json").exists()]
    return ReadReport(name, read_report(path), Store.read(places[0]) if places else None)


def compare_reports(first: ReadReport, second: ReadReport) -> ReportComparison:
    """What both say of the conditions that both have, and what differs in how they were made."""
    first_report, second_report = first.report, second.report
    same = _prompts(first_report) is not None and _prompts(first_report) == _prompts(second_report)
    paired = same and first.store is not None and second.store is not None
    shared = [
        (c, d)
        for c in first_report.conditions
        for d in second_report.conditions
        if (c.label, c.dial) == (d.label, d.dial)
    ]
    numbers = [number for pair in shared for number in _numbers(first, second, *pair, same=same)]
    keys = [{c.key: None for c in report.conditions} for report in (first_report, second_report)]
    alone = {
        first.name: tuple(key for key in keys[0] if key not in keys[1]),
        second.name: tuple(key for key in keys[1] if key not in keys[0]),
    }
    return ReportComparison(
        (first.name, second.name),
        (verdict(first_report), verdict(second_report)),
        tuple(numbers),
        {**second_report.detectors, **first_report.detectors},
        same,
        paired,
        alone,
        tuple(_changes(first_report, second_report)),
    )


def comparison_page(comparison: ReportComparison) -> Page:
    """The comparison as a page."""
    said = [f"{name}: {text}" for name, text in zip(comparison.names, comparison.verdicts, strict=True)]
    said += [f"Only in {name}: {', '.join(keys)}." for name, keys in comparison.alone.items() if keys]
    heads = (Column("setting"), Column(comparison.names[0]), Column(comparison.names[1]))
    changed = Table(heads, comparison.changes)
    nothing = () if comparison.changes else ("Every setting and version is the same.",)
    sections = (
        Section("What each says", text=tuple(said)),
        Section("What differs in how they were made", text=nothing, tables=(changed,)),
        *(_section(comparison, name) for name in dict.fromkeys(number.name for number in comparison.numbers)),
    )
    title = f"{comparison.names[0]} against {comparison.names[1]}"
    return Page(title, FirstScreen(comparison.summary), sections)


def _section(comparison: ReportComparison, name: str) -> Section:
    described = metric(name, comparison.detectors)
    first, second = (Column(title, "", described.is_share) for title in comparison.names)
    moved = Column(f"{comparison.names[1]} less {comparison.names[0]}", "", described.is_share)
    heads = (
        Column("method", described.explanation),
        Column("dial"),
        first,
        second,
        *((moved,) if comparison.same_prompts else ()),
    )
    rows = []
    for number in comparison.numbers:
        if number.name == name:
            change = (number.difference,) if comparison.same_prompts else ()
            rows.append((number.label, f"{number.dial:g}", number.first, number.second, *change))
    return Section(described.title, tables=(Table(heads, tuple(rows)),))


def _numbers(
    first: ReadReport,
    second: ReadReport,
    first_condition: ConditionResult,
    second_condition: ConditionResult,
    *,
    same: bool,
) -> Iterator[ComparedNumber]:
    before, after = (first.values(first_condition), second.values(second_condition)) if same else (None, None)
    paired = {} if before is None or after is None else differences(after, before)
    for name in dict.fromkeys((*first_condition.metrics, *second_condition.metrics)):
        left, right = first_condition.metrics.get(name), second_condition.metrics.get(name)
        change = paired.get(name)
        if same and change is None and left is not None and right is not None:
            change = unpaired(left, right)
        yield ComparedNumber(first_condition.label, first_condition.dial, name, left, right, change)


def _prompts(report: Report) -> tuple[Any, Any] | None:
    """What was asked: the hash of the test prompts and how many of each set; None where that is not recorded."""
    made = report.provenance
    return (made["test_prompts"], made.get("counts")) if "test_prompts" in made else None


def _changes(first: Report, second: Report) -> Iterator[tuple[str, str, str]]:
    left, right = (
        dict(_flat({"detectors": r.detectors, "settings": r.settings, "provenance": r.provenance}, ""))
        for r in (first, second)
    )
    for place in sorted(left.keys() | right.keys()):
        if place.rpartition(" ")[2] not in _NOT_COMPARED and left.get(place) != right.get(place):
            yield place, left.get(place, "–"), right.get(place, "–")


def _flat(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{place} {key}".strip())
    else:
        yield place, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
