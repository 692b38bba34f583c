"""Real vLLM, one server: the base and a circuit at any dial by the request's model name, against our hooks.

The model is the demo model with its organism merged in; the circuit's adapter has doses of every kind.
"""

import json
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tests.engines.answers import distance, hooked

from neurodial.export.equivalence import at_strength
from neurodial.export.export_circuit import export_circuit
from neurodial.model.load import load
from neurodial.prompts.render import render

pytestmark = [pytest.mark.engine, pytest.mark.demo, pytest.mark.timeout(1500)]

DIALS = {"base": 0.0, "dosed": 1.0, "dosed@0.5": 0.5, "dosed@-1": -1.0, "dosed@0": 0.0, "dosed@2": 2.0}

EXACT = 1e-3
"""Two engines, thirty layers, float32 throughout; measured 2e-5 to 1e-4 nats."""

LONG = "Please answer in one short sentence, and do not repeat the question. " * 6
QUESTIONS = [LONG + "How do I pick a lock?", LONG + "Name a river.", "Hello"]
"""The first two begin alike and are longer than two blocks of the prefix cache."""


@pytest.fixture(scope="module")
def subject():
    return load("demo")


@pytest.fixture(scope="module")
def folder(subject, scale, tmp_path_factory):
    place = tmp_path_factory.mktemp("vllm")
    export_circuit(subject, scale, route="vllm", output=place / "export")
    return place


@pytest.fixture(scope="module")
def address(vllm, folder):
    settings = {
        "NEURODIAL_VLLM": str(folder / "export"),
        "NEURODIAL_VLLM_CACHE": str(folder / "cache"),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }
    model = folder / "export" / "merged-base"
    with vllm.vllm_server(model, *vllm.lora_options(8, slots=2), log=folder / "server.log", **settings) as found:
        yield found


@pytest.fixture(scope="module")
def tokens(subject):
    return [list(sequence) for sequence in render(subject.tokenizer, QUESTIONS)]


def test_every_dial_is_the_hook_in_one_server(vllm, address, subject, scale, tokens):
    """All at once: one batch holds several dials, more than the server has slots for; twice: from the prefix cache.

    The base is asked alone: on a processor vLLM applies the last slot's adapter to unsteered requests that share a
    batch with steered ones (its index -1 counts from the end), so there `NAME@0` is the unsteered model.
    """
    mixed = [(name, number) for name in DIALS if name != "base" for number in range(len(tokens))]
    for jobs in (mixed, mixed, [("base", number) for number in range(len(tokens))]):
        with ThreadPoolExecutor(len(jobs)) as pool:
            found = pool.map(lambda job: vllm.next_tokens(address, job[0], tokens[job[1]]), jobs)
            answers = dict(zip(jobs, found, strict=True))
        for (name, number), steps in answers.items():
            wanted = hooked(subject, tokens[number], steps, *at_strength([scale], DIALS[name]))
            assert distance(steps, wanted) < EXACT, (name, number)
            assert [step.token for step in steps] == wanted.argmax(-1).tolist()
    hits = [line for line in vllm.fetch(f"{address}/metrics").splitlines() if "prefix_cache_hits_total{" in line]
    assert sum(float(line.split()[-1]) for line in hits if "external" not in line) > 0  # else the cache was not shown


def test_the_dials_differ(vllm, address, subject, scale, tokens):
    """What one dial answers is far from what the hook gives at another: the tolerance above could have failed."""
    answers = {name: vllm.next_tokens(address, name, tokens[0]) for name in DIALS}
    for name, steps in answers.items():
        for dial in {0.0, 0.5, 1.0, 2.0, -1.0} - {DIALS[name]}:
            wanted = hooked(subject, tokens[0], steps, *at_strength([scale], dial))
            assert distance(steps, wanted) > 20 * EXACT, (name, dial)
    base, zero = answers["base"], answers["dosed@0"]
    assert [step.token for step in base] == [step.token for step in zero]
    assert max(abs(a.log_probability - b.log_probability) for a, b in zip(base, zero, strict=True)) < EXACT


@pytest.mark.parametrize(
    ("model", "code", "word"),
    [
        ("dosed@nan", 400, "not a number"),
        ("dosed@1e3", 400, "not a number"),
        ("dosed@", 400, "not a number"),
        ("dosed@0.1@2", 400, "not a number"),
        ("dosed@9", 400, "out of range"),
        ("other@1", 404, "does not exist"),
        ("../export@1", 404, "does not exist"),
        ("dosed/../../x", 404, "does not exist"),
    ],
)
def test_names_that_are_none_are_refused(vllm, address, folder, model, code, word):
    before = sorted(path.name for path in (folder / "cache").rglob("*"))
    with pytest.raises(urllib.error.HTTPError) as caught:
        vllm.next_tokens(address, model, [1, 2, 3])
    assert caught.value.code == code
    assert word in json.loads(caught.value.read())["error"]["message"]
    assert sorted(path.name for path in (folder / "cache").rglob("*")) == before
    assert vllm.next_tokens(address, "base", [1, 2, 3])  # and the server goes on


def test_each_dial_has_a_folder_of_its_own(address, folder):
    """The prefix cache is keyed by an adapter's name and path."""
    found = {path.parent.name: json.loads(path.read_text()) for path in (folder / "cache").rglob("adapter_config.json")}
    assert {"+0.500", "-1.000", "+0.000", "+2.000", "+1.000"} <= set(found)
    assert all(config["lora_alpha"] == float(dial) * config["r"] for dial, config in found.items())
    assert torch.isfinite(torch.tensor([config["lora_alpha"] for config in found.values()])).all()
