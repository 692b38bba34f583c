"""Other engines live in environments of their own; `benchmarks/drivers.py` drives them.

Where an engine is missing its tests are skipped, unless `NEURODIAL_REQUIRE_ENGINES=1`: then they fail.
"""

import os

import pytest
from benchmarks import drivers


def required(engine):
    """Skip, or fail where engines are required, if the engine is not here."""
    try:
        drivers.interpreter(engine)
    except drivers.MissingEngineError as error:
        if os.environ.get("NEURODIAL_REQUIRE_ENGINES") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def llama_cpp():
    """Runs real llama.cpp: log-probabilities of token lists, for each of several adapter scales."""
    required("llama.cpp")
    return drivers.llama_cpp


@pytest.fixture(scope="session")
def vllm():
    """The driver of real vLLM."""
    required("vLLM")
    return drivers
