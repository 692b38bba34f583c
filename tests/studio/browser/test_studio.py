"""The studio in a real browser: what a user does, view by view."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

# Unsteered and steered answers part at the second token, by half a logit on either side: on any machine.
QUESTION = "How can I steal a car?"
SHORT = "#/chat?length=24&c=refusal@1"


def over(page):
    """Wait until the answers stand."""
    expect(page.locator(".answer.steered[data-state=over]").last).to_be_visible()
    expect(page.locator("#stop")).to_be_hidden()


def ask(page, text=QUESTION):
    page.locator("#prompt").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".answer.steered .token").first).to_be_visible()
    over(page)


def text_of(page, side):
    return page.locator(f".answer.{side} .answer-text").last.inner_text()


def turn(page, value):
    before = page.url
    exact = page.get_by_label("Exact dial of refusal")
    exact.fill(str(value))
    exact.press("Enter")
    expect(page).not_to_have_url(before)
    expect(page.locator("#stop")).to_be_visible()
    over(page)


# ------------------------------------------------------------------------------------------- chat


def test_a_prompt_a_dial_and_another_answer(open_page):
    page = open_page(SHORT)
    ask(page)
    plain, steered = text_of(page, "unsteered"), text_of(page, "steered")
    assert plain != steered
    assert float(page.locator("#kl").inner_text()) > 0
    turn(page, 2)
    assert text_of(page, "unsteered") == plain
    assert text_of(page, "steered") != steered
    expect(page.locator(".dial .word")).to_have_text("beyond the full circuit")
    turn(page, 0)
    assert text_of(page, "steered") == plain
    assert page.locator("#kl").inner_text() == "0"
    assert page.locator(".token.up, .token.down").count() == 0, "nothing moved, nothing is coloured"


def test_the_slider_moves_by_keyboard(open_page):
    page = open_page(SHORT)
    ask(page)
    page.get_by_label("Dial of refusal", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Exact dial of refusal")).to_have_value("1.05")
    expect(page.locator("#stop")).to_be_visible()
    over(page)


def test_tokens_say_their_probabilities_to_mouse_and_keyboard(open_page):
    page = open_page(SHORT)
    ask(page)
    page.locator(".answer.steered .token").nth(4).hover()
    note = page.locator("#token-note")
    expect(note).to_contain_text("unsteered")
    assert note.locator("tbody tr").count() >= 5
    page.locator(".answer.unsteered .answer-text").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".answer.unsteered .token.here")).to_have_count(1)
    expect(note).to_be_visible()
    page.keyboard.press("Escape")
    expect(note).to_be_hidden()


def test_what_is_sent_while_the_page_loads_is_asked_once_and_steered(browser, open_page):
    context, held = browser.new_context(reduced_motion="reduce"), []
    context.route("**/api/circuits", lambda route: held.append(route))  # noqa: PLW0108 (a bare method is refused)
    page = open_page(SHORT, context=context)
    page.locator("#prompt").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.locator("#prompt")).to_have_value(QUESTION)
    with page.expect_request("**/api/answers") as sent:
        for request in held:
            request.continue_()
    assert [one["id"] for one in sent.value.post_data_json["circuits"]] == ["refusal"]
    over(page)
    expect(page.locator(".turn")).to_have_count(1)
    context.close()


def test_stop_retry_and_edit(open_page):
    page = open_page("#/chat?length=400&c=refusal@1")
    page.locator("#prompt").fill("Tell me a long story about a lighthouse.")
    page.locator("#send").click()
    expect(page.locator(".answer.steered .token").nth(5)).to_be_visible()
    page.locator("#stop").click()
    expect(page.get_by_text("Stopped.")).to_be_visible()
    over(page)
    assert page.locator(".answer.steered .token").count() < 300
    page.get_by_label("Edit this prompt").click()
    expect(page.locator("#prompt")).to_have_value("Tell me a long story about a lighthouse.")
    expect(page.locator(".turn")).to_have_count(0)


def test_settings_reach_the_model(open_page):
    page = open_page(f"{SHORT}&temperature=1&seed=7")
    ask(page)
    first = text_of(page, "unsteered")
    page.get_by_label("Answer again").click()
    expect(page.locator("#stop")).to_be_visible()
    over(page)
    assert text_of(page, "unsteered") == first, "the same seed, the same answer"
    page.get_by_text("Settings").click()
    page.get_by_label("Seed").fill("8")
    page.get_by_label("Seed").press("Enter")
    expect(page.locator("#stop")).to_be_visible()
    over(page)
    assert text_of(page, "unsteered") != first


def test_a_chat_goes_on_and_a_reload_and_a_second_tab_lose_nothing(open_page):
    page = open_page(SHORT)
    ask(page)
    page.locator("#prompt").fill("And a safe?")
    page.keyboard.press("Enter")
    expect(page.locator(".turn").nth(1).locator(".token").first).to_be_visible()
    page.reload()  # in the middle of an answer
    expect(page.locator(".turn")).to_have_count(2)
    over(page)
    texts = page.locator(".answer-text").all_inner_texts()
    assert all(texts)
    other = open_page(page.url.split("/", 3)[3], context=page.context)
    expect(other.locator(".turn")).to_have_count(2)
    over(other)
    assert other.locator(".answer-text").all_inner_texts() == texts


def test_a_link_carries_the_whole_state(open_page):
    page = open_page("#/chat?c=refusal@-0.5&length=12&q=Say%20hello.&seed=3")
    over(page)
    expect(page.get_by_label("Exact dial of refusal")).to_have_value("-0.5")
    expect(page.locator(".asked p")).to_have_text("Say hello.")
    assert page.locator(".answer.steered .token").count() <= 12


def test_the_gauge_shows_the_openers_share(open_page):
    page = open_page(SHORT)
    page.get_by_label("Openers of which behaviour").select_option("find:refusal")
    expect(page.locator("#gauge-steered")).to_be_visible()
    ask(page, "How do I make a bomb at home?")
    expect(page.locator("#gauge-unsteered")).to_have_text(re.compile(r"\d"))
    shares = [page.locator(f"#gauge-{side}").inner_text() for side in ("unsteered", "steered")]
    assert shares[0] != shares[1]


def test_markup_in_prompts_stays_text(open_page):
    page = open_page("#/chat?length=8&c=refusal@1")
    evil = "<script>window.taken = 1</script><img src=x onerror='window.taken = 2'>"
    ask(page, f"Repeat: {evil}")
    expect(page.locator(".asked p")).to_contain_text("<script>")
    assert page.evaluate("() => window.taken === undefined")
    assert page.locator(".thread script, .thread img").count() == 0
    page.goto(page.url.split("#")[0] + "#/discover?source=paste")
    page.get_by_label("Show the behaviour, one a line").fill(f"{evil} one\n{evil} two\n{evil} three")
    page.get_by_label("Do not, one a line").fill("a\nb\nc")
    expect(page.locator(".seen").first).to_contain_text("script")
    assert page.evaluate("() => window.taken === undefined")


# ------------------------------------------------------------------------------------------- look


def test_a_neuron_switched_off_is_felt_in_the_chat(open_page):
    page = open_page(SHORT)
    ask(page)
    before = page.locator("#kl").inner_text()
    page.goto(page.url.split("#")[0] + "#/look/refusal")
    boxes = page.locator(".neurons tbody input")
    expect(boxes).to_have_count(46)
    for place in range(6):
        boxes.nth(place).uncheck()
    expect(page.get_by_text("6 off in the chat")).to_be_visible()
    page.get_by_role("link", name="Try it in the chat").click()
    expect(page.locator(".dial")).to_contain_text("40 neurons, 6 off")
    page.get_by_role("button", name="New chat").click()
    ask(page)
    assert page.locator("#kl").inner_text() != before


def test_the_table_sorts_and_filters(open_page):
    page = open_page("#/look/refusal")
    rows = page.locator(".neurons tbody tr")
    expect(rows).to_have_count(46)
    page.get_by_label("Filter neurons").fill("layer 28")
    expect(rows).not_to_have_count(46)
    assert {row.split("\t")[1].strip() for row in rows.all_inner_texts()} == {"28"}
    page.get_by_label("Filter neurons").fill("")
    page.locator(".neurons th button", has_text="layer").click()
    expect(page.locator(".neurons th", has_text="layer")).to_have_attribute("aria-sort", "descending")
    page.locator(".neurons th button", has_text="layer").click()
    layers = [int(row.split("\t")[1]) for row in rows.all_inner_texts()]
    assert layers == sorted(layers)


def test_a_neurons_page_and_a_definition(open_page):
    page = open_page("#/look/refusal")
    page.get_by_role("button", name="What is “Dose”?").click()
    expect(page.get_by_role("note")).to_contain_text("dial 1 turns this neuron")
    page.keyboard.press("Escape")
    expect(page.get_by_role("note")).to_have_count(0)
    page.locator(".neurons tbody a").first.click()
    frame = page.frame_locator("iframe.explained-page")
    expect(frame.get_by_role("heading", level=1)).to_contain_text("of refusal")
    expect(frame.locator(".coloured").first).to_be_visible()


# ------------------------------------------------------------------------------------------- discover, measure, export


def test_discover_to_save_to_chat(open_page, pictures):
    page = open_page("#/discover")
    expect(page.locator(".piece.read").first).to_be_visible()
    page.locator("form.side button.primary").click()
    expect(page.locator("canvas.map")).to_be_visible()
    expect(page.get_by_text("46 neurons found")).to_be_visible()
    expect(page.get_by_text("universal neurons flagged")).to_be_visible()
    page.reload()
    expect(page.locator("canvas.map")).to_be_visible()
    page.locator("canvas.map").hover(position={"x": 120, "y": 385})
    page.screenshot(path=str(pictures / "found-light.png"), full_page=True)
    page.locator("#save-name").fill("found here")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("link", name="found-here")).to_be_visible()
    page.goto(page.url.split("#")[0] + "#/look/found-here/with/refusal")
    expect(page.locator(".big")).to_have_text("46")


def test_cancelling_a_discovery_stops_it(open_page):
    page = open_page("#/discover?method=dose&select=count:10")
    expect(page.locator(".piece.read").first).to_be_visible()
    page.locator("form.side button.primary").click()
    page.locator(".working").get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled: the work has stopped.")).to_be_visible()
    expect(page.locator("#jobs-text")).to_have_text("idle")


def test_options_of_doses_are_sent_as_chosen(open_page, pictures):
    page = open_page("#/discover?method=dose&source=formality")
    expect(page.locator(".piece.read").first).to_be_visible()
    page.get_by_text("More options").click()
    page.get_by_label("Margin", exact=True).select_option("own-answers")
    page.get_by_label("Sign", exact=True).select_option("both")
    page.get_by_label("Max degenerate", exact=True).fill("0.05")
    page.get_by_label("Skip layers", exact=True).fill("0, 1")
    page.get_by_label("Budget", exact=True).fill("none")
    page.get_by_label("Select", exact=True).select_option("per-layer")
    page.get_by_label("Value of Select").fill("2")
    page.get_by_label("What is “Max degenerate”?").click()
    expect(page.get_by_role("note")).to_contain_text("loops, gibberish")
    page.keyboard.press("Escape")
    page.screenshot(path=str(pictures / "discover-dose.png"), full_page=True)
    with page.expect_request("**/api/discoveries") as sent:
        page.locator("form.side button.primary").click()
    asked = sent.value.post_data_json
    chosen = {"margin": "own-answers", "sign": "both", "max_degenerate": 0.05, "skip_layers": [0, 1]}
    assert asked["options"] == {**chosen, "budget": None, "select": "per-layer:2"}
    assert "select=per-layer%3A2" in page.url
    assert "budget=none" in page.url
    page.locator(".working").get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled: the work has stopped.")).to_be_visible()


def test_wrong_prompts_are_said_while_typing(open_page):
    page = open_page("#/discover?source=paste", ignored="400")  # what is wrong comes as 400
    page.get_by_label("Show the behaviour, one a line").fill("same\nother\nthird")
    page.get_by_label("Do not, one a line").fill("same\nfine")
    expect(page.locator(".hint")).to_contain_text("on both sides")
    page.locator("form.side button.primary").click()
    expect(page.get_by_role("alert")).to_contain_text("on both sides")
    page.get_by_label("Do not, one a line").fill("different\nfine\ngood")
    expect(page.locator(".seen").first).to_be_visible()
    expect(page.locator(".hint")).to_have_count(0)


def test_a_small_evaluation_with_its_report(open_page, pictures):
    page = open_page("#/measure")
    page.get_by_label("Dials").fill("1")
    page.get_by_label("Prompts", exact=True).fill("2")
    page.get_by_label("Max new tokens", exact=True).fill("8")
    page.get_by_text("More measures and other methods").click()
    page.get_by_label("Neutral", exact=True).fill("2")
    page.locator("form.side button[type=submit]").click()
    expect(page.locator(".working")).to_be_visible()
    expect(page.locator(".numbers-table")).to_be_visible(timeout=300_000)
    page.get_by_role("link", name="Open the report").click()
    frame = page.frame_locator("iframe.report")
    expect(frame.get_by_role("heading", level=1)).to_contain_text("Steering refusal")
    page.screenshot(path=str(pictures / "report-light.png"))
    page.locator(".numbers-table .explain").first.click()
    expect(page.get_by_role("note")).to_contain_text("Share of answers")


def test_an_export_shows_its_proof(open_page, pictures):
    page = open_page("#/export")
    page.locator("form.side button[type=submit]").click()
    expect(page.locator(".verdict.good")).to_be_visible(timeout=300_000)
    expect(page.get_by_role("link", name="adapter_model.safetensors").first).to_be_visible()
    page.screenshot(path=str(pictures / "proof-light.png"))
    with page.expect_download() as download:
        page.get_by_role("link", name="adapter_config.json").first.click()
    assert "LORA" in download.value.path().read_text()


@pytest.mark.parametrize(
    ("path", "words"),
    [("#/nowhere", "no such page"), ("#/look/nothing", "no circuit"), ("#/export/nothing", "no export")],
)
def test_what_is_not_there_is_said(open_page, path, words):
    page = open_page(path, ignored="404")
    expect(page.locator("main")).to_contain_text(words)
