"""The studio as a user starts it, on the demo model, and a headless Chromium that looks at it.

Needs Debian's `chromium` (or NEURODIAL_CHROMIUM) and the package playwright. Without them the tests are skipped, unless
NEURODIAL_REQUIRE_ENGINES=1. NEURODIAL_STUDIO="ADDRESS FOLDER" takes a studio that runs already. Screenshots go to
NEURODIAL_SCREENSHOTS, or to a temporary folder.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from neurodial.circuit.circuit import Circuit, Row
from neurodial.circuit.site import Neuron, Site
from neurodial.serve.address import listen
from neurodial.studio.app import create_app
from neurodial.studio.collection import Collection
from neurodial.studio.views import scores_view

ROOT = Path(__file__).resolve().parents[3]
CIRCUIT = ROOT / "docs" / "results" / "demo" / "refusal.circuit.json"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-first-run",
]
PATIENCE = 240_000  # milliseconds; a real model answers, perhaps on a busy machine
LAYERS, WIDTH = 33, 1536  # 50,688 neurons


def pytest_collection_modifyitems(config, items):
    """These take minutes: they run where they are asked for, by marker, by path, or as a requirement."""
    asked = "browser" in str(config.option.markexpr) or any("browser" in str(one) for one in config.args)
    if asked or os.environ.get("NEURODIAL_REQUIRE_ENGINES") == "1":
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with -m browser"))


def missing(reason):
    if os.environ.get("NEURODIAL_REQUIRE_ENGINES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser():
    chromium = os.environ.get("NEURODIAL_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        missing("there is no chromium: apt-get install chromium, or set NEURODIAL_CHROMIUM")
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        missing("playwright is not installed: pip install -e '.[dev]'")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=chromium, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A studio's folder that already holds a circuit chosen from 50,688 neurons."""
    running = os.environ.get("NEURODIAL_STUDIO")
    place = Path(running.split()[1]) if running else tmp_path_factory.mktemp("studio")
    if (place / "circuits" / "large.circuit.json").exists():
        return place
    generator = np.random.default_rng(0)
    scores = {layer: generator.standard_t(3, size=WIDTH) * (1 + layer / 8) for layer in range(LAYERS)}
    flat = sorted(((abs(v), layer, i) for layer, row in scores.items() for i, v in enumerate(row)), reverse=True)
    circuit = Circuit.of(
        [Row(Neuron(layer, None, i), float(scores[layer][i]), 1.0) for _, layer, i in flat[:50]], name="large"
    )
    Collection(place, {}).save_circuit(
        circuit, scores_view({Site(layer): row for layer, row in scores.items()}, circuit)
    )
    return place


@pytest.fixture(scope="session")
def address(folder):
    """The studio's address; the command runs as a process of its own."""
    if running := os.environ.get("NEURODIAL_STUDIO"):
        yield running.split()[0]
        return
    command = [sys.executable, "-m", "neurodial.cli.main", "studio", "demo", "--circuit", f"refusal={CIRCUIT}"]
    command += ["--folder", str(folder), "--port", "0", "--no-open"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = folder / "studio.log"
    with log.open("w") as stream:
        process = subprocess.Popen(command, env=environment, stderr=stream, stdout=stream)
    try:
        yield wait_for(process, log)
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for(process, log):
    for _ in range(4000):
        said = log.read_text()
        if "the studio is open: " in said:
            found = said.split("the studio is open: ")[1].split()[0]
            return found
        if process.poll() is not None:
            missing(f"the studio did not start: {said[-500:]}")
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    wanted = os.environ.get("NEURODIAL_SCREENSHOTS")
    place = Path(wanted) if wanted else tmp_path_factory.mktemp("screenshots")
    place.mkdir(parents=True, exist_ok=True)
    return place


KINDS = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}


def is_trouble(said, ignored):
    return said.type == "error" and not (ignored and ignored in said.text)


@pytest.fixture
def open_page(browser, address):
    """Opens pages of the demo's studio."""
    yield from page_opener(browser, address)


def page_opener(browser, address, patience=PATIENCE):
    """Opens pages; a page that logs an error, or asks another host, fails the test."""
    contexts, troubles = [], []

    def opened(path="", kind="light", context=None, ignored=None):
        if context is None:
            context = browser.new_context(**KINDS[kind], reduced_motion="reduce")
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(patience)
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("console", lambda said: troubles.append(said.text) if is_trouble(said, ignored) else None)
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((address, "data:", "blob:")) else troubles.append(asked.url),
        )
        page.goto(f"{address}{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture
def page(open_page):
    return open_page()


@contextmanager
def served(studio):
    """A studio's address; it is served by a thread of this process."""
    import uvicorn

    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(studio), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture
def open_small(browser, studio):
    """Opens pages of a studio on a tiny model; `studio` is what it serves."""
    from playwright.sync_api import expect

    expect.set_options(timeout=20_000)
    with served(studio) as address:
        yield from page_opener(browser, address, 20_000)
    expect.set_options(timeout=PATIENCE)
