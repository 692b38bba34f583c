"""Other engines live in environments of their own; a test drives them in a subprocess.

`NEURODIAL_LLAMA_PYTHON` names the interpreter that has llama-cpp-python (by default `.venv-llama`, which
`make setup-engines` builds). Where there is none the tests are skipped, unless `NEURODIAL_REQUIRE_ENGINES=1`.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def interpreter(variable: str, folder: str, module: str) -> str:
    """The interpreter of an engine's environment; skips, or fails where engines are required."""
    python = os.environ.get(variable, str(ROOT / folder / "bin" / "python"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, "-c", f"import {module}"]
    found = Path(python).exists() and not subprocess.run(
        command, capture_output=True, check=False, env=environment
    ).returncode  # fmt: skip
    if not found:
        reason = f"{python} can't import {module}: run `make setup-engines`, or set {variable}"
        if os.environ.get("NEURODIAL_REQUIRE_ENGINES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return python


@pytest.fixture(scope="session")
def llama_cpp(tmp_path_factory):
    """Runs real llama.cpp: log-probabilities of token lists, for each of several adapter scales."""
    python = interpreter("NEURODIAL_LLAMA_PYTHON", ".venv-llama", "llama_cpp")
    folder = tmp_path_factory.mktemp("llama")

    def run(model, tokens, *, loras=(), scales=((),)):
        job = {
            "model": str(model),
            "tokens": [list(sequence) for sequence in tokens],
            "loras": [str(file) for file in loras],
            "scales": [list(scale) for scale in scales],
            "output": str(folder / "logits.npz"),
        }
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        worker = Path(__file__).with_name("llama_cpp_worker.py")
        done = subprocess.run(
            [python, str(worker)], input=json.dumps(job), capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(folder / "logits.npz", allow_pickle=False) as stored:
            logits = [torch.from_numpy(stored[str(number)].copy()) for number in range(len(scales))]
        return [torch.log_softmax(part, dim=-1) for part in logits]

    return run
