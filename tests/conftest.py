"""What holds for every test: nothing is downloaded, and array shapes are checked while the tests run."""

import os

import pytest
from hypothesis import settings

# Before anything imports a library that reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "agg"
if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread for each worker: the workers already fill the processor.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["MKL_NUM_THREADS"] = "1"

# Every annotated array shape of the library is checked at run time in the tests.
# NEURODIAL_TEST_SHAPES=0 turns that off, to see whether a failure or a slow test comes from it.
if os.environ.get("NEURODIAL_TEST_SHAPES", "1") != "0":
    from tests.named_axes import check_shapes

    check_shapes("neurodial")

# A busy machine is no failure: property tests have no time limit of their own (each test has pytest's).
settings.register_profile("neurodial", deadline=None, max_examples=40)
settings.load_profile("neurodial")


def pytest_collection_modifyitems(config, items):
    """Tests that need another engine or a browser take minutes: they run when asked for (`make test-engines`)."""
    if os.environ.get("NEURODIAL_REQUIRE_ENGINES") == "1":
        return
    asked = config.getoption("markexpr")
    for mark in ("engine", "browser"):
        if mark not in asked:
            skip = pytest.mark.skip(reason=f"takes minutes: make test-engines, or pytest -m {mark}")
            for item in items:
                if item.get_closest_marker(mark) is not None:
                    item.add_marker(skip)
