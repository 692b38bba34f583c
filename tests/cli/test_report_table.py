"""Reports in the terminal: nothing is cut at 80 or 60 columns, every detector has a column, the verdict comes last."""

import io
import re

import pytest
from rich.console import Console

from neurodial.cli.compare_command import print_comparison
from neurodial.cli.report_table import print_report
from neurodial.evaluation.intervals import Estimate, paired_rates, rate
from neurodial.evaluation.metrics import metric
from neurodial.evaluation.report.comparison import ReadReport, compare_reports
from neurodial.evaluation.results import ConditionResult, Report
from neurodial.evaluation.verdict import verdict

DETECTORS = ("refusal", "refusal:jailbreakbench", "refusal:maliciousinstruct", "regex:[a-m]")
OTHERS = ("opposite", "over_refusal", "degenerate", "opener", "accuracy")


def condition(label, left, kl):
    plain, steered = [True] * 104, [number < left for number in range(104)]
    metrics = {f"rate:{name}": rate(steered) for name in DETECTORS} | {name: rate(steered) for name in OTHERS}
    metrics |= {"kl": Estimate(kl, kl / 3, 3 * kl, 16, "x"), "perplexity": Estimate(12.34567, 8.1, 16.2, 8, "x")}
    return ConditionResult("circuit", label, 1.0, {}, metrics, {"rate:refusal": paired_rates(plain, steered)})


@pytest.fixture
def report():
    unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, condition("", 104, 0.1).metrics, {})
    conditions = (
        unsteered,
        condition("mine", 7, 0.0123456),
        condition("direction-blocks (block 16, token -1)", 99, 1.7),
    )
    return Report(
        "refusal", dict.fromkeys(DETECTORS, ""), conditions, notes=("A remark.",), provenance={"test_prompts": "a"}
    )


def printed(width, show, *arguments):
    console = Console(file=io.StringIO(), width=width, highlight=False, emoji=False)
    show(*arguments, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_headings_and_numbers_are_whole_at_any_width(report, width):
    text = printed(width, print_report, report)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = re.findall(r"[^\s:-]+", text)
    for name in ("kl", "perplexity", *OTHERS, *(f"rate:{name}" for name in DETECTORS)):
        for word in re.findall(r"[^\s:-]+", metric(name).title):
            assert word in words, f"the heading of {name} at {width} columns"
    assert text.count("7 % [3, 13]") == len(DETECTORS) + len(OTHERS)
    assert "n = 104" in text
    assert "0.0123 [0.0041, 0.037]" in text


def test_the_first_detector_and_cost_stand_first_and_the_verdict_last(report):
    text = printed(140, print_report, report)
    heading = next(line for line in text.splitlines() if line.startswith("method"))
    assert heading.count("n = ") >= 4
    first = text.index("refusal")
    assert first < text.index("KL") < text.index("degenerate") < text.index("jailbreakbench")
    assert " ".join(text.split()).endswith(f"A remark. {verdict(report)}")


def test_names_in_square_brackets_are_no_markup(report):
    assert "[a-" in printed(80, print_report, report)


@pytest.mark.parametrize("width", [60, 80])
def test_a_comparison_keeps_its_headings(report, width):
    comparison = compare_reports(ReadReport("before", report, None), ReadReport("after", report, None))
    text = printed(width, print_comparison, comparison)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for word in ("number", "before", "after", "difference", "perplexity"):
        assert word in text
    assert text.count("number") >= len(report.conditions)
