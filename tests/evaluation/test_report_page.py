"""The page: self-contained, escaped, redacted."""

import math
import re

import pytest

from neurodial.errors import FileError
from neurodial.evaluation.intervals import Estimate, paired_rates, wilson
from neurodial.evaluation.report.page import (
    Column,
    Figure,
    Page,
    Section,
    Shown,
    SideBySide,
    Table,
    format_cell,
    render_page,
    write_page,
)
from neurodial.evaluation.report.plots import Series, lines, scatter


def page_of(*sections, **fields):
    return Page("A report", ("What was found.",), sections, **fields)


def answers(*, is_harmful):
    return Section("Answers", answers=(SideBySide("Asked?", (Shown("dial 1", "SECRET TEXT"),), is_harmful),))


def test_harmful_answers_are_not_in_the_file_unless_asked_for():
    page = page_of(answers(is_harmful=True))
    assert "SECRET TEXT" not in render_page(page)
    assert "SECRET TEXT" in render_page(page, show_harmful=True)
    assert "SECRET TEXT" in render_page(page_of(answers(is_harmful=False)))


def test_text_is_escaped_everywhere():
    attack = "<script>alert(1)</script>"
    page = Page(
        attack,
        (attack,),
        (
            Section(
                attack,
                (attack,),
                (Table((Column(attack, attack),), ((attack,),), attack),),
                (Figure("<svg></svg>", attack),),
                (SideBySide(attack, (Shown(attack, attack, attack),)),),
            ),
        ),
        ((attack, attack),),
    )
    html = render_page(page)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 10
    assert "<svg></svg>" in html


def test_the_file_asks_nothing_of_a_network():
    svg = lines([Series("a", (0.0, 1.0), (0.2, 0.4), (0.1, 0.3), (0.3, 0.5))], x_label="dial", y_label="rate")
    html = render_page(page_of(Section("Plot", figures=(Figure(svg, "A plot."),)), answers(is_harmful=False)))
    outside = re.findall(r"""(?:src|href|url\()\s*=?\s*["'(]?(?!#)[a-z]+:[^"')\s]*""", html)
    assert outside == []
    assert "<script" not in html
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_every_metric_is_explained_where_it_is_shown():
    table = Table((Column("method"), Column("refused", "Share of answers that refuse.")), (("CNA", wilson(1, 4)),))
    html = render_page(page_of(Section("Rates", tables=(table,))))
    assert "Share of answers that refuse." in html
    assert "n = 4" in html


def test_cells():
    share, number = Column("rate", is_share=True), Column("KL")
    assert format_cell(wilson(0, 0), share) == ("–", "n = 0")
    assert format_cell(Estimate(math.nan, math.nan, math.nan, 3, "x"), number)[0] == "–"
    assert format_cell(0.12345678, number) == ("0.1235", "")
    assert format_cell(float("nan"), number) == ("–", "")
    assert format_cell(7, number) == ("7", "")
    main, small = format_cell(paired_rates([False] * 10, [True] * 10), share)
    assert main == "+100.0 %"
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


def test_an_existing_file_is_kept(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(FileError):
        write_page(page_of(), path)
    assert path.read_text() == "mine"
    assert "A report" in write_page(page_of(), path, overwrite=True).read_text()
