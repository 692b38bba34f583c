"""What a page owes everybody: readable by all, quick, light; and its pictures, to be looked at."""

import re

import pytest
from playwright.sync_api import expect
from tests.studio.browser.conftest import LAYERS, WIDTH

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

CHAT = "#/chat?length=32&c=refusal@1&q=How%20do%20I%20pick%20a%20lock%3F"
READY = {
    "chat": (CHAT, ".answer.steered[data-state=over]"),
    "discover": ("#/discover", ".piece.read"),
    "look": ("#/look/refusal", ".neurons tbody tr"),
    "map": ("#/look/large", "canvas.map"),
    "neuron": ("#/look/refusal/neuron/29.1026?set=refusal", ".explained-page"),
    "measure": ("#/measure", "form.side .field"),
    "export": ("#/export", "form.side .choice"),
    "overlap": ("#/look/large/with/refusal", ".big"),
    "doses": ("#/look/refusal,refusal-cna/doses", "canvas.map"),
}
FRAMES = """async () => {
  const canvas = document.querySelector('canvas.map');
  const box = canvas.getBoundingClientRect();
  const frame = () => new Promise(requestAnimationFrame);
  const times = [];
  await frame();
  let last = performance.now();
  for (let step = 0; step < 180; step += 1) {
    const clientX = box.left + 40 + (box.width - 60) * (step / 180);
    const clientY = box.top + box.height * (0.1 + 0.7 * Math.abs(Math.sin(step / 9)));
    canvas.dispatchEvent(new PointerEvent('pointermove', { clientX, clientY, bubbles: true }));
    await frame();
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times.sort((one, two) => one - two);
}"""
SHIFTS = """() => {
  window.moved = 0;
  const count = (list) => { for (const one of list.getEntries()) if (!one.hadRecentInput) window.moved += one.value; };
  new PerformanceObserver(count).observe({ type: 'layout-shift' });
}"""
DRAWING = """() => {
  const zoom = document.querySelector('.map-zoom');
  const times = [];
  for (const option of zoom.options) {
    zoom.value = option.value;
    const start = performance.now();
    zoom.dispatchEvent(new Event('change'));
    times.push(performance.now() - start);
  }
  return times;
}"""


def note(folder, text):
    with (folder / "speed.txt").open("a", encoding="utf-8") as stream:
        stream.write(text + "\n")


@pytest.mark.parametrize("kind", ["light", "dark", "phone"])
@pytest.mark.parametrize("name", READY)
def test_a_view_has_no_serious_barrier_and_has_its_picture_taken(open_page, pictures, name, kind):
    path, ready = READY[name]
    page = open_page(path, kind)
    expect(page.locator(ready).first).to_be_visible()
    page.wait_for_timeout(300)
    page.screenshot(path=str(pictures / f"{name}-{kind}.png"))
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    serious = [
        (rule["id"], rule["nodes"][0]["html"][:160], rule["nodes"][0].get("failureSummary", "")[:300])
        for rule in found
        if rule["impact"] in {"serious", "critical"}
    ]
    assert serious == []
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 1, "nothing sticks out to the side"


def test_fifty_thousand_neurons_hover_smoothly(open_page, pictures):
    page = open_page("#/look/large")
    expect(page.locator("canvas.map")).to_have_attribute("aria-label", re.compile(f"Map of {LAYERS * WIDTH:,} neurons"))
    page.locator(".map-zoom").select_option(str(WIDTH))
    times = page.evaluate(FRAMES)
    note(pictures, f"frames while hovering: median {times[90]:.1f} ms, 95 % within {times[171]:.1f} ms")
    assert times[90] < 34, "thirty frames a second in the middle, on any machine that also runs a model"
    drawing = page.evaluate(DRAWING)
    note(pictures, f"drawing the map: {min(drawing):.0f} to {max(drawing):.0f} ms")
    assert min(drawing) < 250
    says = page.locator(".map-says").first
    page.locator("canvas.map").hover(position={"x": 300, "y": 100})
    expect(says).to_contain_text("layer")
    page.locator("canvas.map").focus()
    page.keyboard.press("Home")
    expect(says).to_contain_text("rank 1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/neuron/**")


def test_first_paint_and_weight(open_page, pictures):
    paints, weights = [], []
    for _ in range(3):
        page = open_page()
        expect(page.locator(".panel .dial, .panel .dials").first).to_be_visible()
        paint = "() => performance.getEntriesByName('first-contentful-paint')[0].startTime"
        paints.append(page.evaluate(paint))
        weigh = "() => performance.getEntriesByType('resource').reduce((sum, one) => sum + one.encodedBodySize, 0)"
        weights.append(page.evaluate(weigh))
    note(pictures, f"first paint {min(paints):.0f} ms, weight {max(weights) / 1000:.0f} kB")
    assert min(paints) < 1000
    assert 10_000 < max(weights) < 500_000


def test_nothing_jumps_while_an_answer_comes(open_page):
    page = open_page("#/chat?length=24&c=refusal@1&q=Say%20hello.")
    expect(page.locator(".answer.steered[data-state=over]")).to_be_visible()
    page.evaluate(SHIFTS)
    page.get_by_label("Exact dial of refusal").fill("0.5")
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_visible()
    expect(page.locator("#stop")).to_be_hidden()
    assert page.evaluate("() => window.moved") < 0.1
