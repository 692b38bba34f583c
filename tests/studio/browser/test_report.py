"""Reports in a real browser: no wider than the window, read in both colour schemes, with scripts and without."""

import json

import pytest

from neurodial.evaluation.intervals import Estimate, paired_rates, rate
from neurodial.evaluation.report.evaluation import write_report
from neurodial.evaluation.results import ConditionResult, Report
from neurodial.evaluation.run_rows import GenerationRow, VerdictRow
from neurodial.evaluation.store import Answers

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    plain, steered = [True] * 20, [number < 5 for number in range(20)]
    detectors = dict.fromkeys(("regex:x", "refusal:maliciousinstruct", "refusal:jailbreakbench"), "A rule.")
    kl = Estimate(0.0123, 0.01, 0.02, 8, "x")
    unsteered = ConditionResult(
        "unsteered", "unsteered", 0.0, {}, {f"rate:{name}": rate(plain) for name in detectors}, {}
    )
    conditions = [unsteered]
    for label in ("mine", "direction-blocks (block 16, token -1)", "random (seed 0)"):
        metrics = {f"rate:{name}": rate(steered) for name in detectors} | {"kl": kl}
        changes = {f"rate:{name}": paired_rates(plain, steered) for name in detectors}
        conditions.append(ConditionResult("circuit", label, 1.0, {}, metrics, changes))
    rows = [
        GenerationRow(key, "behaviour", number, "Why? " * 20, "a-word-that-is-long" * 30)
        for key in ("unsteered", "mine @ 1")
        for number in range(4)
    ]
    verdicts = [VerdictRow("regex:x", row.condition, row.set, row.index, "shown") for row in rows]
    made = {"command": "neurodial evaluate demo " + "x" * 200, "model": {"label": "demo", "digest": "a" * 64}}
    folder = tmp_path_factory.mktemp("report")
    value = Report("theft", detectors, tuple(conditions), provenance=made)
    write_report(value, folder, Answers(tuple(rows), tuple(verdicts)))
    return (folder / "report.html").as_uri()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("scripts", [True, False])
def test_the_page_fits_and_is_read(browser, report, width, scheme, scripts):
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, java_script_enabled=scripts
    )
    page = context.new_page()
    troubles, asked = [], []
    page.on("console", lambda said: troubles.append(said.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report)
    session = context.new_cdp_session(page)
    size = session.send("Page.getLayoutMetrics")["cssContentSize"]
    assert size["width"] <= width, "nothing makes the page wider than the window"
    assert page.locator(".badge").first.is_visible()
    assert page.locator("figure svg").count() == 2
    assert page.get_by_role("button", name="Copy the data (CSV)").count() == (2 if scripts else 0)
    if scripts:
        paper, ink = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        light = [sum(map(int, json.loads(f"[{colour[4:-1]}]"))) for colour in (paper, ink)]
        assert (light[0] > light[1]) == (scheme == "light")
        assert abs(light[0] - light[1]) > 450, "text stands out from the paper"
    page.get_by_text("The data as CSV").first.click()
    assert "method,kl" in page.locator(".copied").first.inner_text()
    assert (troubles, asked) == ([], [report])
    context.close()
