"""The page: self-contained, escaped, redacted."""

import base64
import hashlib
import math
import re

import pytest

from neurodial.errors import FileError
from neurodial.evaluation.intervals import Estimate, paired_rates, rate, wilson
from neurodial.evaluation.report.first_screen import first_screen
from neurodial.evaluation.report.html_page import format_cell, render_page, write_page
from neurodial.evaluation.report.methods_text import methods_text
from neurodial.evaluation.report.page import (
    Badge,
    Column,
    Copyable,
    Figure,
    FirstScreen,
    KeyNumber,
    Page,
    Section,
    Shown,
    SideBySide,
    Table,
)
from neurodial.evaluation.report.plots import Series, csv_of, lines, scatter
from neurodial.evaluation.results import ConditionResult, Report
from neurodial.evaluation.run_rows import GenerationRow, VerdictRow
from neurodial.evaluation.store import Answers


def page_of(*sections, **fields):
    return Page("A report", FirstScreen("What was found."), sections, **fields)


def answers(*, is_harmful):
    return Section("Answers", answers=(SideBySide("Asked?", (Shown("dial 1", "SECRET TEXT"),), is_harmful),))


def test_harmful_answers_are_not_in_the_file_unless_asked_for():
    page = page_of(answers(is_harmful=True))
    assert "SECRET TEXT" not in render_page(page)
    assert "SECRET TEXT" in render_page(page, show_harmful=True)
    assert "SECRET TEXT" in render_page(page_of(answers(is_harmful=False)))


def test_text_is_escaped_everywhere():
    attack = "</pre><script>alert(1)</script>"
    group = SideBySide(attack, (Shown(attack, attack, Badge("other", attack)),))
    number = KeyNumber(attack, attack, attack, attack)
    figure = Figure('<svg id="a"></svg>', attack, "plot", attack)
    first = FirstScreen(attack, (number,), (figure,), (group,))
    table = Table((Column(attack, attack),), ((attack,),), attack)
    section = Section(attack, (attack,), (Copyable(attack, attack),), (table,), (), (group,))
    html = render_page(Page(attack, first, (section,), attack, ((attack, attack),)))
    assert html.count("<script") == 1, "the page's own"
    assert html.count("&lt;script&gt;") >= 20
    assert 'id="plot-a"' in html


def test_the_file_asks_nothing_of_a_network_and_runs_its_own_script_alone():
    svg = lines([Series("a", (0.0, 1.0), (0.2, 0.4), (0.1, 0.3), (0.3, 0.5))], x_label="dial", y_label="rate")
    html = render_page(page_of(Section("Plot", figures=(Figure(svg, "A plot."),)), answers(is_harmful=False)))
    outside = re.findall(r"""(?:src|href|url\()\s*=?\s*["'(]?(?!#)[a-z]+:[^"')\s]*""", html)
    assert outside == []
    [script] = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{allowed}'" in policy
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_what_can_be_copied_is_on_the_page_without_scripts():
    data = csv_of([Series("a, b", (1.0,), (0.5,))], x_name="dial", y_name="rate")
    assert data == 'method,dial,rate,low,high\n"a, b",1.0,0.5,,'
    section = Section("Methods", copyable=(Copyable("command", "neurodial evaluate demo", is_code=True),))
    figures = (Figure("<svg ></svg>", "A plot.", "plot", data),)
    html = render_page(Page("A report", FirstScreen("Said.", figures=figures), (section,)))
    assert f'<pre class="copied" id="plot-data">{data.replace(chr(34), "&#34;")}</pre>' in html
    assert ">neurodial evaluate demo</pre>" in html
    buttons = re.findall(r"<button[^>]*>", html)
    assert len(buttons) == 2
    assert all(" hidden" in button for button in buttons), "a script shows them"


def test_every_metric_is_explained_where_it_is_shown():
    table = Table((Column("method"), Column("refused", "Share of answers that refuse.")), (("CNA", wilson(1, 4)),))
    html = render_page(page_of(Section("Rates", tables=(table,))))
    assert "Share of answers that refuse." in html
    assert "n = 4" in html
    assert "<details open" not in html, "definitions start closed"


def test_cells():
    share, number = Column("rate", is_share=True), Column("KL")
    assert format_cell(wilson(0, 0), share) == ("–", "n = 0")
    assert format_cell(Estimate(math.nan, math.nan, math.nan, 3, "x"), number)[0] == "–"
    assert format_cell(0.12345678, number) == ("0.1235", "")
    assert format_cell(float("nan"), number) == ("–", "")
    assert format_cell(7, number) == ("7", "")
    main, small = format_cell(paired_rates([False] * 10, [True] * 10), share)
    assert main == "+100.0 points"
    assert format_cell(paired_rates([True] * 10, [False] * 10), share)[0] == "−100.0 points"
    assert "p = 0.002" in small


def test_plots_differ_with_the_data_and_not_by_chance():
    def plot(value):
        return scatter([Series("a", (0.0, 0.1), (value, 0.4), (0.1, 0.3), (0.6, 0.5))], x_label="KL", y_label="left")

    assert plot(0.2) == plot(0.2)
    assert plot(0.2) != plot(0.5)
    assert "currentColor" in plot(0.2)
    one = [Series("a", (0.0, 0.1), (0.2, 0.4))]
    assert scatter(one, x_label="KL", y_label="", logarithmic=True) != scatter(one, x_label="KL", y_label="")
    assert lines(one, x_label="KL", y_label="", is_share=True) != lines(one, x_label="KL", y_label="")
    assert lines(one, x_label="KL", y_label="", baseline=0.3) != lines(one, x_label="KL", y_label="")


def test_random_controls_share_one_entry_of_the_legend():
    controls = [Series(f"random (seed {seed})", (0.0, 1.0), (0.8, 0.8), is_control=True) for seed in range(3)]
    svg = lines([Series("mine", (0.0, 1.0), (0.8, 0.1)), *controls], x_label="dial", y_label="refused")
    assert svg.count(">random controls<") == 1
    assert "seed" not in svg
    assert ">random (seed 0)<" in lines(controls[:1], x_label="dial", y_label="refused")


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(FileError):
        write_page(page_of(), path)
    assert path.read_text() == "mine"
    assert "A report" in write_page(page_of(), path, overwrite=True).read_text()


# ------------------------------------------------------------------------------------------- the first screen


def report_of(changed=(0, 1, 2), detector="refusal"):
    """Ten prompts, refused unsteered; steered, some are answered."""
    plain, name = [True] * 10, f"rate:{detector}"
    steered = [number not in changed for number in range(10)]
    cost = {"kl": Estimate(0.02, 0.01, 0.03, 8, "ratio estimate")}
    unsteered = ConditionResult("unsteered", "unsteered", 0.0, {}, {name: rate(plain)}, {})
    mine = ConditionResult(
        "circuit", "mine", 1.0, {}, {name: rate(steered), **cost}, {name: paired_rates(plain, steered)}
    )
    return Report("theft" if detector != "refusal" else "refusal", {detector: "A rule."}, (unsteered, mine))


def answers_of(labels):
    rows = [
        (GenerationRow(key, asked, index, f"{asked} {index}?", f"{key} {asked} {index}"), label)
        for (key, asked, index), label in labels.items()
    ]
    verdicts = [VerdictRow("refusal", row.condition, row.set, row.index, label) for row, label in rows]
    return Answers(tuple(row for row, _ in rows), tuple(verdicts))


def test_answers_that_changed_come_first_and_harmful_ones_leave_room_for_one_that_is_read():
    labels = {("unsteered", "behaviour", n): "shown" for n in range(4)}
    labels |= {("mine @ 1", "behaviour", n): "absent" if n == 3 else "shown" for n in range(4)}
    labels |= {(key, "opposite", 0): "degenerate" for key in ("unsteered", "mine @ 1")}
    shown = first_screen(report_of(), answers_of(labels)).answers
    assert [group.prompt for group in shown] == ["behaviour 3?", "behaviour 0?", "opposite 0?"]
    assert [group.is_harmful for group in shown] == [True, True, False]
    assert [answer.badge.text for answer in shown[0].answers] == ["refused", "answered"]
    assert [answer.badge for answer in shown[2].answers] == [Badge("broken", "broken")] * 2


def test_a_behaviour_that_is_not_refusal_has_badges_of_its_own_name():
    labels = {("unsteered", "behaviour", n): "shown" for n in range(4)}
    labels |= {("mine @ 1", "behaviour", n): "failed" if n else "absent" for n in range(4)}
    report = report_of(detector="regex:x")
    found = answers_of(labels)
    verdicts = [VerdictRow("regex:x", v.condition, v.set, v.index, v.label) for v in found.verdicts]
    shown = first_screen(report, Answers(found.generations, tuple(verdicts))).answers
    assert len(shown) == 3
    assert [answer.badge.text for answer in shown[0].answers] == ["theft shown", "no theft"]
    assert shown[1].answers[1].badge == Badge("other", "no verdict")
    assert not any(group.is_harmful for group in shown)


def test_the_numbers_at_the_top_have_intervals_in_points():
    behaviour, cost = first_screen(report_of(), Answers()).numbers
    assert behaviour.value == "100 % → 70 %"
    assert behaviour.small.startswith("−30 points [−")
    assert "n = 10" in behaviour.small
    assert cost.value == "0.02 nats per token"
    assert "0.01 to 0.03" in cost.small


def test_the_methods_paragraph_says_what_was_done():
    settings = {"decoding": {"temperature": 0.5, "top_p": 0.9, "max_new_tokens": 12, "seed": 7, "system": "Be kind."}}
    provenance = {
        "model": {"label": "demo", "family": "llama", "dtype": "float32", "digest": "a" * 64, "widths": [1536] * 30},
        "splits": {"discovery": 40, "test": 20},
        "counts": {"behaviour": 10},
        "versions": {"torch": "2.13"},
    }
    plain, mine = report_of().conditions
    mine = ConditionResult("circuit", "mine", 1.0, {"found_by": {"kind": "cna", "folds": 3}}, mine.metrics, {})
    text = methods_text(
        Report("refusal", {"refusal": "A rule."}, (plain, mine), settings=settings, provenance=provenance)
    )
    for part in (
        "demo (family llama, 30 layers of 1,536 MLP neurons",
        "discovery 40, test 20",
        "10 prompts whose answers show it",
        "mine (dial 1; found by cna (folds 3))",
        "the detector refusal: A rule.",
        "at temperature 0.5 (top-p 0.9), at most 12 new tokens, seed 7, with the system message 'Be kind.'",
        "torch 2.13",
    ):
        assert part in text
