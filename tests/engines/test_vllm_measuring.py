"""A whole report in real vLLM, started as a user starts it, against the same report by our hooks in transformers.

One run holds all that can be held at once, as a start takes most of the time: several dials and random controls in one
batch, answers, margins, divergence, perplexity, multiple choice.
"""

import pytest
from scripts.vllm_measuring import CASES, NUMBERS, answers_that_differ, largest_differences, reports

from neurodial.engines.vllm_engine import PYTHON
from neurodial.errors import EngineError

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

EXACT = 1e-4
"""Nats, of means over prompts and tokens: two engines, two layers, float32; measured 1e-6 to 1e-5."""


@pytest.fixture(autouse=True)
def settings(vllm, monkeypatch):
    for name, value in (vllm.VLLM_SETTINGS | {PYTHON: vllm.interpreter("vLLM")}).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("case", "how"), [("tiny", "adapters"), ("wide", "in the layers")])
def test_a_report_is_that_of_our_hooks(tmp_path, monkeypatch, case, how):
    """By adapters, and by vLLM's own layers where a circuit fits into none."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    there, here = reports(CASES[case], tmp_path)
    assert [condition.key for condition in there.conditions] == [condition.key for condition in here.conditions]
    found = largest_differences(there, here)
    differ, answers = answers_that_differ(tmp_path)
    assert differ == 0
    assert answers >= 5 * len(there.conditions)
    assert found["rate"] == 0
    for name in NUMBERS:
        assert found[name] < EXACT, name
    # The tolerance could have failed: dials are far from each other.
    for name in ("margin", "kl"):
        values = [condition.metrics[name].value for condition in there.conditions[1:]]
        assert min(abs(a - b) for n, a in enumerate(values) for b in values[:n]) > 20 * EXACT
    assert there.provenance["engine"]["version"].startswith("0.32")
    assert there.provenance["engine"]["dials"] == how


def test_what_is_refused_is_said_before_it_starts(tmp_path):
    """In vLLM's own parser: an option under which numbers would be something else."""
    with pytest.raises(EngineError, match="--logprobs-mode is processed_logits: log-probabilities would be"):
        reports(CASES["tiny"]._replace(options=("--logprobs-mode", "processed_logits")), tmp_path)
    assert not list(tmp_path.rglob("measured.json"))
