"""The studio in a real browser on a tiny model: quick, so that every action is tried here, and the words elsewhere."""

import json
import threading

import pytest
from playwright.sync_api import expect
from tests.studio.conftest import small_circuit
from tests.studio.test_files import SAID, small_report

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron
from neurodial.evaluation.results import report_json
from neurodial.studio.requests import OpenRequest
from neurodial.studio.shared_files import open_file

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]

SHORT = "#/chat?length=6&c=polite@1"
FIELDS = "input:not([type=file]), select, textarea"


def over(page):
    expect(page.locator(".answer.steered[data-state=over]").last).to_be_visible()
    expect(page.locator("#stop")).to_be_hidden()


def ask(page, text="Hi"):
    page.locator("#prompt").fill(text)
    page.keyboard.press("Enter")
    over(page)


BUTTON_IS_BELOW = """(fields) => {
  const bottoms = [...document.querySelectorAll(fields)].map((one) => one.getBoundingClientRect().bottom);
  const button = document.querySelector("form.side button[type=submit]");
  return bottoms.length > 0 && button && button.getBoundingClientRect().top >= Math.max(...bottoms) - 1;
}"""


def go(page, path):
    page.goto(page.url.split("#")[0] + path)


def file_of(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return {"name": "shared.json", "mimeType": "application/json", "buffer": text.encode()}


def test_without_a_circuit_three_steps_say_what_to_do(open_small, studio):
    studio.collection._given.clear()
    page = open_small(ignored="400")
    expect(page.locator(".steps-list > li")).to_have_count(3)
    with page.expect_file_chooser() as asked:
        page.locator(".steps-list").get_by_role("button", name="Open a file").click()
    asked.value.set_files(file_of("{"))
    expect(page.get_by_role("alert")).to_contain_text("shared.json is not JSON")
    page.get_by_role("link", name="Discover a circuit").click()
    expect(page.locator("h1")).to_have_text("Discover")


def test_several_dials_stand_side_by_side_and_stay(open_small):
    page = open_small(SHORT)
    ask(page)
    page.locator("#strip-dials").fill("0, 1, 3")
    page.keyboard.press("Tab")
    page.get_by_label("Answer at several dials").click()
    columns = page.locator(".answer.column")
    expect(columns).to_have_count(3)
    expect(columns.nth(2)).to_have_attribute("data-state", "over")
    expect(columns.nth(2).locator(".numbers")).to_contain_text("KL")
    texts = columns.locator(".answer-text").all_inner_texts()
    assert texts[0] == page.locator(".answer.unsteered .answer-text").inner_text()
    assert texts[1] == page.locator(".answer.steered .answer-text").inner_text()
    assert texts[2] != texts[0]
    page.reload()
    expect(columns.locator(".answer-text").nth(2)).to_have_text(texts[2])
    page.locator("#strip-dials").fill("many")
    page.keyboard.press("Tab")
    page.get_by_label("Answer at several dials").click()
    expect(page.get_by_role("alert")).to_contain_text("numbers between commas")


def test_a_conversation_is_named_renamed_shared_and_opened(open_small, studio):
    page = open_small(SHORT)
    ask(page)
    page.locator(".talk > summary").click()
    page.get_by_label("Name", exact=True).fill("My first")
    page.keyboard.press("Enter")
    expect(page.locator(".talk > summary")).to_have_text("My first")
    page.get_by_label("Name", exact=True).fill("My own")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator(".talk > summary")).to_have_text("My own")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a file").click()
    shared = json.loads(download.value.path().read_text())
    assert (shared["name"], shared["turns"][0]["prompt"]) == ("My own", "Hi")
    assert studio.collection.conversations() == ["my-first"]
    with page.expect_file_chooser() as asked:
        page.get_by_role("button", name="Open a file").click()
    asked.value.set_files(file_of({**shared, "name": "Theirs", "turns": SAID["turns"]}))
    expect(page.locator(".talk > summary")).to_have_text("Theirs")
    expect(page.locator(".answer.unsteered .answer-text")).to_have_text("a <b>")
    expect(page.locator(".answer.column")).to_have_count(2)
    page.locator(".talk > summary").click()
    page.get_by_label("Open a kept one").select_option(label="My own (1 prompt)")
    expect(page.locator(".asked p")).to_have_text("Hi")


def test_nothing_is_wrong_while_one_types(open_small):
    page = open_small("#/discover?source=paste", ignored="400")
    page.get_by_label("Show the behaviour, one a line").fill("Rob a bank?")
    expect(page.locator(".hint")).to_contain_text("negative side has no prompts")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.locator("form.side button.primary").click()
    expect(page.get_by_role("alert")).to_contain_text("negative side has no prompts")


@pytest.mark.parametrize("kind", ["light", "phone"])
def test_the_main_button_stands_below_every_field(open_small, kind):
    page = open_small(kind=kind)
    for view in ("discover", "measure", "export"):
        go(page, f"#/{view}")
        expect(page.locator(f"form.side :is({FIELDS})").first).to_be_visible()
        page.evaluate("document.querySelectorAll('form.side details').forEach((each) => (each.open = true))")
        page.wait_for_function(BUTTON_IS_BELOW, arg=f"form.side :is({FIELDS})")


def test_another_job_is_named_while_an_own_answer_waits_in_silence(open_small, studio):
    page = open_small(SHORT)
    go_on = threading.Event()

    def held(reporter):
        with reporter.progress("measuring costs", 7) as advance:
            advance(2)
            go_on.wait(60)

    studio.queue.submit("discover", "refusal by dose", held)
    page.locator("#prompt").fill("Hi")
    page.keyboard.press("Enter")
    expect(page.locator(".turn .loading")).to_contain_text("discover: refusal by dose")
    page.locator("#jobs-button").click()
    expect(page.locator(".steps .running")).to_contain_text("measuring costs2 of 7")
    page.keyboard.press("Escape")
    go_on.set()
    over(page)
    studio.queue.submit("answer", "own", lambda reporter: go_on.wait(1))
    expect(page.locator(".turn .loading")).to_have_count(0)


def test_doses_of_several_circuits_on_one_map_and_a_neurons_page(open_small, studio):
    studio.collection.save_circuit(Circuit.of([Row(Neuron(0, None, 3), 2.0, -0.5)], name="other"))
    page = open_small("#/look")
    page.get_by_role("link", name="Doses on one map").click()
    expect(page.locator("table tbody tr")).to_have_count(6)
    expect(page.locator("table tbody tr").first).to_contain_text("-0.5")
    page.locator("canvas.map").focus()
    page.keyboard.press("Home")
    expect(page.locator(".map-says")).to_have_text("layer 0, neuron 3: polite 1.3, other -0.5")
    page.get_by_role("checkbox", name="other").uncheck()
    expect(page.locator("table thead th")).to_have_count(3)
    page.locator("canvas.map").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/neuron/**")
    frame = page.frame_locator("iframe.explained-page")
    expect(frame.get_by_role("heading", level=1)).to_have_text("layer 0, neuron 3 of polite")
    expect(frame.locator(".coloured").first).to_be_visible()
    inside = page.locator("iframe.explained-page").evaluate("(one) => one.contentDocument.documentElement.scrollHeight")
    assert page.locator("iframe.explained-page").bounding_box()["height"] >= inside, "it needs no second scroll bar"
    into_words = page.get_by_role("button", name="Put it into words (tiny-llama)")
    into_words.click()
    expect(frame.get_by_text("In words: nothing that could be scored")).to_be_visible()  # its context is too short
    expect(into_words).to_have_count(0)


def test_two_runs_are_named_and_compared(open_small, studio):
    for name, rate in (("before.json", 0.2), ("after.json", 0.7)):
        open_file(studio, OpenRequest(name=name, text=report_json(small_report(rate))))
    page = open_small("#/measure")
    page.get_by_role("link", name="before.json").click()
    page.get_by_label("Name of the run").fill("Before")
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("Called “Before”")
    page.get_by_role("link", name="← All measurements").click()
    page.get_by_label("Compare", exact=True).select_option(label="Before")
    page.get_by_label("with", exact=True).select_option(label="after.json")
    page.get_by_role("button", name="Side by side").click()
    expect(page.locator("main")).to_contain_text("differ beyond chance")
    expect(page.locator("table thead").first).to_contain_text("after.json less Before")


def test_every_action_has_a_key(open_small):
    page = open_small(SHORT)
    ask(page)
    page.locator("main").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_hidden()
    page.keyboard.press("Alt+d")
    expect(page.get_by_label("Dial of polite", exact=True)).to_be_focused()
    outline = "() => getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid", "what has the focus is seen"
    page.keyboard.press("Alt+s")
    expect(page.locator(".answer.column")).to_have_count(3)
    page.keyboard.press("Alt+k")
    expect(page.get_by_label("Name", exact=True)).to_be_visible()
    page.keyboard.press("Alt+n")
    expect(page.locator(".turn")).to_have_count(0)
    page.keyboard.press("Alt+3")
    expect(page.locator(".neurons tbody tr")).to_have_count(6)
    page.locator("h1").click()
    page.keyboard.press("/")
    expect(page.get_by_label("Filter neurons")).to_be_focused()
    page.keyboard.type("> ")
    expect(page.get_by_text("is not understood yet")).to_be_visible()
    expect(page.locator(".neurons tbody tr")).to_have_count(6)


def test_small_circuits_names_stay_text(open_small, studio):
    evil = "<img src=x onerror='window.taken = 1'>"
    studio.collection.save_circuit(small_circuit(studio.subject, name=evil, scale=2.0))
    page = open_small("#/look")
    expect(page.locator(".cards")).to_contain_text("onerror")
    page.get_by_role("link", name="Doses on one map").click()
    expect(page.locator("figcaption")).to_contain_text("onerror")
    assert page.evaluate("() => window.taken === undefined")
