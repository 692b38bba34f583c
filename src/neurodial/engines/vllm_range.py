"""What both sides of a job know: names of files, and the tested versions of vLLM. The standard library alone."""

from __future__ import annotations

from neurodial.errors import EngineError

JOB = "job.json"
LOG = "vllm.log"
FAILURE = "failed.json"
MANIFEST = "gathered.json"
SESSION = "session.json"
RESULTS = "measured.json"
WAITING = "NEURODIAL_WAITING"
"""The environment variable that names the process that waits for the runner, which does not outlive it."""
RUNNER = "neurodial.engines.vllm_gather"
MEASURER = "neurodial.engines.vllm_measure"
ADVANCE = "neurodial: prompts gathered: "
"""How the runner says on its output that a number of prompts is done."""

TESTED = ("0.32",)
"""Where activations are read is vLLM's own affair, and may change with every release."""


def check_version(version: str) -> None:
    """Refuse a vLLM that was not tested.

    Raises:
        EngineError: says which were.

    Example:
        >>> check_version("0.32.0")
        >>> check_version("0.40.1")
        Traceback (most recent call last):
        neurodial.errors.EngineError: vLLM is 0.40.1. Wanted: a version that neurodial was tested with: 0.32. ...
    """
    if ".".join(version.split("+", maxsplit=1)[0].split(".")[:2]) not in TESTED:
        raise EngineError(
            f"vLLM is {version}.",
            wanted=f"a version that neurodial was tested with: {', '.join(TESTED)}",
            fix="Install one in an environment of its own and name its interpreter, or update neurodial: where "
            "activations are read may change with every release of vLLM.",
        )
