"""Vectors in words in a real browser: asked for on both pages, a prompt's tokens typed, bad ones said."""

import pytest
from playwright.sync_api import expect
from tests.studio.test_vectors import studio, subject, wording  # noqa: F401  # fixtures

pytestmark = [pytest.mark.browser, pytest.mark.timeout(90)]


def test_a_circuit_and_its_neuron_are_put_into_words(open_small):
    page = open_small("#/look/polite", ignored="400")
    page.get_by_role("link", name="What it does as a whole").click()
    frame = page.frame_locator("iframe.explained-page")
    expect(frame.get_by_role("heading", level=1)).to_have_text("What polite does as a whole")
    page.get_by_label("The activation at a prompt").fill("Who won the game?")
    page.get_by_label("at its tokens").fill("first")
    page.get_by_role("button", name="Put it into words", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The position is 'first'")
    page.get_by_role("button", name="Read it").click()
    page.get_by_label("The activation at a prompt").fill("Who won the game?")
    page.get_by_role("button", name="Put it into words", exact=True).click()
    expect(frame.locator("caption").first).to_contain_text("token ")
    expect(frame.locator("caption").nth(1)).to_contain_text("what the circuit writes: ")
    page.goto(page.url.split("#")[0] + "#/look/polite/neuron/1.3?set=formality")
    expect(frame.get_by_role("heading", level=1)).to_have_text("layer 1, neuron 3 of polite")
    asked = page.get_by_role("button", name="Put its vectors into words (av, block 1)")
    asked.click()
    expect(frame.get_by_role("cell", name="pears").first).to_be_visible()
    expect(asked).to_have_count(0)
