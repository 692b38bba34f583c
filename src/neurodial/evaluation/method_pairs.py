"""The methods of a run against each other: their headline numbers on the same prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

from neurodial.evaluation.condition_values import Values, differences
from neurodial.evaluation.results import PairedComparison, Report
from neurodial.evaluation.verdict import number_of


def with_comparisons(report: Report, values: Mapping[str, Values]) -> Report:
    """The report with the paired difference of every two methods at dial 1.

    Args:
        report: of the run, so far without them.
        values: what was measured, by the key of each condition.
    """
    number = number_of(report)
    if number is None:
        return report
    measured = {condition.key: _only(values[condition.key], number) for condition in report.at_full_dial()}
    pairs = []
    for first, second in combinations(measured, 2):
        changes = differences(measured[second], measured[first])
        if number in changes:
            pairs.append(PairedComparison(first, second, changes[number]))
    return replace(report, comparisons=tuple(pairs))


def _only(values: Values, number: str) -> Values:
    shares = {name: own for name, own in values.shares.items() if name == number}
    return Values(shares, {name: own for name, own in values.means.items() if name == number}, {})
