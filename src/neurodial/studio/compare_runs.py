"""Two runs against each other, as `neurodial compare` compares them, for the page."""

from __future__ import annotations

from typing import Any

from neurodial.evaluation.metrics import metric
from neurodial.evaluation.report.comparison import ReportComparison, compare_reports, read_for_comparison
from neurodial.evaluation.results import plain_values
from neurodial.studio.studio_state import StudioState
from neurodial.studio.tasks_measure import part_folder


def compared_runs(studio: StudioState, first: tuple[str, str], second: tuple[str, str]) -> ReportComparison:
    """The comparison of two parts of reports, each given by its report's id and its own.

    Raises:
        UnknownNameError: one is not there.
        FileError: one can't be read.
    """
    titles = [_title(studio, *path) for path in (first, second)]
    if titles[0] == titles[1]:
        titles = [f"{title} ({number})" for number, title in enumerate(titles, 1)]
    read = [
        read_for_comparison(part_folder(studio.collection.report(report), part), title)
        for (report, part), title in zip((first, second), titles, strict=True)
    ]
    return compare_reports(*read)


def comparison_view(comparison: ReportComparison) -> dict[str, Any]:
    """A comparison as the page shows it."""
    names = list(dict.fromkeys(number.name for number in comparison.numbers))
    numbers = [
        {
            "label": number.label,
            "dial": number.dial,
            "metric": number.name,
            "first": plain_values(number.first),
            "second": plain_values(number.second),
            "difference": None if number.difference is None else plain_values(number.difference.estimate),
            "clear": number.difference is not None and number.difference.is_clear,
        }
        for number in comparison.numbers
    ]
    return {
        "names": list(comparison.names),
        "summary": comparison.summary,
        "verdicts": list(comparison.verdicts),
        "metrics": {name: plain_values(metric(name, dict(comparison.detectors))) for name in names},
        "numbers": numbers,
        "same_prompts": comparison.same_prompts,
        "alone": {name: list(keys) for name, keys in comparison.alone.items()},
        "changes": [list(change) for change in comparison.changes],
    }


def _title(studio: StudioState, report: str, part: str) -> str:
    name = studio.collection.report_names().get(report, report)
    return name if part == "report" else f"{name}, {part}"
