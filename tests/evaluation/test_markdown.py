"""A written report's numbers as Markdown."""

import json

import pytest

from neurodial.errors import FileError, UnknownNameError
from neurodial.evaluation.intervals import Estimate, paired_rates, rate
from neurodial.evaluation.report.markdown import markdown_table
from neurodial.evaluation.results import ConditionResult, Report, read_report, report_json

NAN = float("nan")


@pytest.fixture
def report(tmp_path):
    plain = [True] * 6 + [False] * 2
    steered = [True] * 2 + [False] * 6
    conditions = (
        ConditionResult("unsteered", "unsteered", 0.0, {}, {"rate:refusal": rate(plain)}, {}),
        *(
            ConditionResult(
                "circuit",
                "mine",
                dial,
                {},
                {"rate:refusal": rate(steered), "distinct": Estimate(0.25, NAN, NAN, 3, "whole")},
                {"rate:refusal": paired_rates(plain, steered)},
            )
            for dial in (0.5, 1.0)
        ),
    )
    path = tmp_path / "report.json"
    path.write_text(report_json(Report("refusal", {"refusal": "Our rule."}, conditions)))
    return read_report(path)


def test_numbers_stand_with_interval_and_n(report):
    first = rate([True] * 6 + [False] * 2)
    text = markdown_table(report, ["rate:refusal", "distinct"])
    expected = f"| unsteered | 0 | 75 % [{100 * first.low:.0f}, {100 * first.high:.0f}], n = 8 | – |"
    assert text.splitlines()[2] == expected
    assert text.splitlines()[3].endswith("| 0.25, n = 3 |")
    assert len(text.splitlines()) == 5


def test_dials_can_be_chosen_and_differences_asked_for(report):
    lines = markdown_table(report, ["rate:refusal"], dials=[1.0]).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["0", "1"]
    changes = markdown_table(report, ["rate:refusal"], differences=True).splitlines()
    assert "-50 points [" in changes[2]
    assert "unsteered" not in "".join(changes)


def test_what_is_not_there_is_refused(report, tmp_path):
    with pytest.raises(UnknownNameError, match=r"rate:refusal"):
        markdown_table(report, ["rate:refusa"])
    for text in ("{", json.dumps({"format": "neurodial.demo"}), "[]"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(FileError):
            read_report(tmp_path / "x.json")
