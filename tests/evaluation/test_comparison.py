"""Two reports against each other."""

from dataclasses import replace

import pytest

from neurodial.evaluation.intervals import rate, unpaired
from neurodial.evaluation.report.comparison import ReadReport, compare_reports, comparison_page, read_for_comparison
from neurodial.evaluation.report.html_page import render_page
from neurodial.evaluation.results import ConditionResult, Report, report_json
from neurodial.evaluation.run_rows import VerdictRow
from neurodial.evaluation.store import Store

KEYS = ("unsteered", "mine @ 1")


def report_of(shown, **provenance):
    """A report of which prompts show the behaviour, by condition."""
    conditions = [ConditionResult("unsteered", "unsteered", 0.0, {}, {"rate:refusal": rate(shown["unsteered"])}, {})]
    for key in list(shown)[1:]:
        metrics = {"rate:refusal": rate(shown[key])}
        conditions.append(ConditionResult("circuit", key.removesuffix(" @ 1"), 1.0, {}, metrics, {}))
    made = {"test_prompts": "abc", "counts": {"behaviour": 20}, "created": "today", "versions": {"torch": "2"}}
    return Report("refusal", {"refusal": "A rule."}, tuple(conditions), provenance={**made, **provenance})


def store_of(shown):
    store = Store(None, {})
    store.append(
        [
            VerdictRow("refusal", key, "behaviour", index, "shown" if is_shown else "absent")
            for key, own in shown.items()
            for index, is_shown in enumerate(own)
        ]
    )
    return store


FIRST = {"unsteered": [True] * 20, "mine @ 1": [True] * 10 + [False] * 10}
SECOND = {"unsteered": [True] * 20, "mine @ 1": [False] * 20, "other @ 1": [True] * 20}


def compared(*, rows=True, **provenance):
    first = ReadReport("one", report_of(FIRST), store_of(FIRST) if rows else None)
    second = ReadReport("two", report_of(SECOND, **provenance), store_of(SECOND) if rows else None)
    return compare_reports(first, second)


def test_conditions_that_both_have_are_compared_prompt_by_prompt():
    found = compared()
    assert [(number.label, number.name) for number in found.numbers] == [
        ("unsteered", "rate:refusal"),
        ("mine", "rate:refusal"),
    ]
    change = found.numbers[1].difference
    assert change.estimate.value == -0.5
    assert (change.falls, change.rises) == (10, 0)
    assert found.paired
    assert found.alone == {"one": (), "two": ("other @ 1",)}
    assert found.changes == (), "the day is not compared"
    assert "1 differ beyond chance (paired on the same prompts)" in found.summary


def test_without_rows_the_difference_is_from_both_intervals():
    found = compared(rows=False)
    change = found.numbers[1].difference
    assert not found.paired
    assert change == unpaired(rate(FIRST["mine @ 1"]), rate(SECOND["mine @ 1"]))
    paired = compared().numbers[0].difference.estimate
    assert change.estimate.low < -0.5 < change.estimate.high
    assert paired.value == found.numbers[0].difference.estimate.value == 0


@pytest.mark.parametrize("change", [{"test_prompts": "other"}, {"counts": {"behaviour": 4}}])
def test_other_prompts_give_no_differences(change):
    found = compared(**change)
    assert not found.same_prompts
    assert all(number.difference is None for number in found.numbers)
    assert "asked different test prompts" in found.summary
    assert len(found.changes) == 1


def test_settings_that_differ_are_named():
    changes = {place: values for place, *values in compared(versions={"torch": "3", "peft": "1"}).changes}
    assert changes == {"provenance versions torch": ["2", "3"], "provenance versions peft": ["–", "1"]}
    html = render_page(comparison_page(compared(versions={"torch": "3"})))
    assert "provenance versions torch" in html
    assert "two less one" in html
    assert "−50.0 points" in html
    assert "Every setting and version is the same." in render_page(comparison_page(compared()))


def test_reports_are_read_with_the_rows_beside_them(tmp_path):
    folder = tmp_path / "report"
    store = Store(folder, {"run": 1})
    store.append(store_of(FIRST).rows(VerdictRow))
    (folder / "report.json").write_text(report_json(report_of(FIRST)))
    alone = tmp_path / "alone.json"
    alone.write_text(report_json(report_of(FIRST)))
    one, two = read_for_comparison(folder, "one"), read_for_comparison(alone, "two")
    assert one.report == two.report == report_of(FIRST)
    assert two.store is None
    assert compare_reports(one, replace(one, name="again")).numbers[1].difference.estimate.value == 0
