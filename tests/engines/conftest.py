"""Other engines live in environments of their own; `benchmarks/drivers.py` drives them.

Where an engine is missing its tests are skipped, unless `NEURODIAL_REQUIRE_ENGINES=1`: then they fail.
"""

import os

import pytest
from benchmarks import drivers
from tests.engines.answers import DOSES
from tests.export.circuits import dosed

from neurodial.intervention.scale import Scale
from neurodial.model.load import load


def required(find, *arguments):
    """Skip, or fail where engines are required, if the engine is not here."""
    try:
        find(*arguments)
    except drivers.MissingEngineError as error:
        if os.environ.get("NEURODIAL_REQUIRE_ENGINES") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def llama_cpp():
    """Runs real llama.cpp: log-probabilities of token lists, for each of several adapter scales."""
    required(drivers.interpreter, "llama.cpp")
    return drivers.llama_cpp


@pytest.fixture(scope="module")
def subject():
    """The demo's base model; a module's own, as some tests edit it."""
    return load("demo-base")


@pytest.fixture(scope="module")
def scale(subject):
    """Seven neurons of it, each with a dose."""
    return Scale(dosed(subject, DOSES))


@pytest.fixture(scope="session")
def unquantised(tmp_path_factory):
    """The demo model's file with every weight dequantised: what transformers computes with."""
    return drivers.dequantised(load("demo-base").source, tmp_path_factory.mktemp("f32") / "model.gguf")


@pytest.fixture(scope="session")
def llama_server():
    """The driver of real llama-server."""
    required(drivers.llama_server_program)
    return drivers


@pytest.fixture(scope="session")
def vllm():
    """The driver of real vLLM."""
    required(drivers.interpreter, "vLLM")
    return drivers
