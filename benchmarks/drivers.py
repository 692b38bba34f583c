"""Driving other inference engines, each in an environment of its own, for tests and reports.

llama.cpp runs in a worker process for the length of one job, and as its own server; vLLM as its own OpenAI-compatible
server; both as a user starts them. `make setup-engines` builds both environments; NEURODIAL_LLAMA_PYTHON and
NEURODIAL_VLLM_PYTHON name others. llama-server lies beside the interpreter of its environment.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
WORKERS = Path(__file__).with_name("workers")
ENGINES = {
    "llama.cpp": ("NEURODIAL_LLAMA_PYTHON", ".venv-llama", "llama_cpp"),
    "vLLM": ("NEURODIAL_VLLM_PYTHON", ".venv-vllm", "vllm"),
}
START_SECONDS = 400


class MissingEngineError(Exception):
    """The engine's environment is not here."""


class Step(NamedTuple):
    """One generated token: its id, its log-probability, and those of the likeliest tokens at its place."""

    token: int
    log_probability: float
    top: dict[int, float]


@functools.cache
def interpreter(engine: str) -> str:
    """The interpreter of an engine's environment; looked for once, as importing an engine takes seconds.

    Raises:
        MissingEngineError: there is none that can import the engine.
    """
    variable, folder, module = ENGINES[engine]
    python = os.environ.get(variable, str(ROOT / folder / "bin" / "python"))
    command = [python, "-c", f"import {module}"]
    if (
        not Path(python).exists()
        or subprocess.run(command, capture_output=True, check=False, env=environment()).returncode
    ):
        raise MissingEngineError(f"{python} can't import {module}: run `make setup-engines`, or set {variable}")
    return python


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without what would lead another interpreter to our packages."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings


# ------------------------------------------------------------------------------------------------- llama.cpp

LLAMA_EXACT = ("--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off", "--cache-ram", "0")
"""What llama-server is told so that answers can be compared: keys, values and attention in single precision (else it is
off by 1e-2 nats), and no store of earlier prompts, which forgets the adapters that they were read with."""


def llama_cpp(
    model: Path | str,
    tokens: Sequence[Sequence[int]],
    *,
    loras: Sequence[Path | str] = (),
    scales: Sequence[Sequence[float]] = ((),),
) -> list[Tensor]:
    """Log-probabilities (token, vocab) of token lists in real llama.cpp, for each setting of the adapters' scales."""
    python = interpreter("llama.cpp")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "logits.npz"
        job = {
            "model": str(model),
            "tokens": [list(sequence) for sequence in tokens],
            "loras": [str(file) for file in loras],
            "scales": [list(scale) for scale in scales],
            "output": str(output),
        }
        done = subprocess.run(
            [python, str(WORKERS / "llama_cpp_worker.py")],
            input=json.dumps(job), capture_output=True, text=True, check=False, env=environment(),
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"llama.cpp ended with {done.returncode}: {done.stderr[-3000:]}")
        with np.load(output, allow_pickle=False) as stored:
            logits = [torch.from_numpy(stored[str(number)].copy()) for number in range(len(scales))]
    return [torch.log_softmax(part, dim=-1) for part in logits]


def dequantised(source: Path | str, target: Path, dtype: Any = np.float32) -> Path:
    """A GGUF file with every matrix in that type and every vector in float32: what transformers computes with."""
    import gguf

    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(dtype if values.ndim > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def llama_server_program() -> str:
    """The llama-server of llama.cpp's environment.

    Raises:
        MissingEngineError: it is not there.
    """
    program = Path(interpreter("llama.cpp")).with_name("llama-server")
    if not program.exists():
        raise MissingEngineError(f"There is no {program}: run `make setup-engines`")
    return str(program)


@contextlib.contextmanager
def llama_server(model: Path | str, *options: str, log: Path) -> Iterator[str]:
    """A llama-server on a free loopback port, for the length of the block; gives its address.

    Args:
        model: the GGUF file.
        options: further command-line options.
        log: where its output goes.
    """
    port = free_port()
    command = [
        llama_server_program(), "-m", str(model), "--host", "127.0.0.1", "--port", str(port), "--ctx-size", "1024",
        "--parallel", "1", "--threads", "1", "--no-warmup", "--no-webui", *options,
    ]  # fmt: skip
    with served(command, f"http://127.0.0.1:{port}", log=log, settings={}) as address:
        yield address


def next_tokens_of_llama(address: str, tokens: Sequence[int], count: int = 3, **fields: Any) -> list[Step]:
    """What llama-server answers to a prompt of token ids, greedily; `fields` go into the body, such as `lora`."""
    body = {"prompt": list(tokens), "n_predict": count, "temperature": 0, "n_probs": 20, "ignore_eos": True, **fields}
    found = post(f"{address}/completion", body)["completion_probabilities"]
    return [
        Step(place["id"], place["logprob"], {one["id"]: one["logprob"] for one in place["top_logprobs"]})
        for place in found
    ]


# ------------------------------------------------------------------------------------------------- vLLM

VLLM_SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


@contextlib.contextmanager
def vllm_server(
    model: Path | str, *options: str, log: Path, nodes: int = 1, is_compiled: bool = False, **settings: str
) -> Iterator[str]:
    """A vLLM server on a free loopback port, for the length of the block; gives its address.

    Args:
        model: the base model's folder.
        options: further command-line options.
        log: where its output goes.
        nodes: as many machines as vLLM believes to run on; the further ones are started without settings.
        is_compiled: whether it compiles the model.
        settings: environment variables.
    """
    python, port, master = interpreter("vLLM"), free_port(), free_port()
    shared = [
        "--model", str(model), "--served-model-name", "base", "--dtype", "float32",
        *(() if is_compiled else ("--enforce-eager",)), "--max-model-len", "512", "--block-size", "32",
        "--max-logprobs", "20", *options,
    ]  # fmt: skip
    if nodes > 1:
        shared += ["--nnodes", str(nodes), "--master-addr", "127.0.0.1", "--master-port", str(master)]
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port), *shared,
    ]  # fmt: skip
    with contextlib.ExitStack() as further:
        for node in range(1, nodes):
            rank = ["--headless", "--node-rank", str(node)]
            beside = started([python, str(WORKERS / "vllm_node.py"), *shared, *rank], log.with_suffix(f".{node}"))
            further.enter_context(beside)
        main = served(command, f"http://127.0.0.1:{port}", log=log, settings=VLLM_SETTINGS | settings)
        address = further.enter_context(main)
        next_tokens(address, "base", [1, 2, 3], 1)  # the first request compiles what is left to compile
        yield address


def lora_options(rank: int, *, slots: int = 8) -> list[str]:
    """What vLLM is started with to take a circuit of that rank."""
    return [
        "--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(slots), "--max-cpu-loras", str(2 * slots),
        "--lora-target-modules", "down_proj",
    ]  # fmt: skip


def next_tokens(address: str, model: str, tokens: Sequence[int], count: int = 3, **fields: Any) -> list[Step]:
    """What a server answers to a prompt of token ids, greedily, with the log-probabilities of each place."""
    body = {
        "model": model, "prompt": list(tokens), "max_tokens": count, "temperature": 0, "logprobs": 20,
        "return_tokens_as_token_ids": True, "ignore_eos": True, **fields,
    }  # fmt: skip
    found = post(f"{address}/v1/completions", body)["choices"][0]["logprobs"]
    tops = [{_token(text): value for text, value in top.items()} for top in found["top_logprobs"]]
    steps = zip(map(_token, found["tokens"]), found["token_logprobs"], tops, strict=True)
    return [Step(*step) for step in steps]


def post(address: str, body: Any, *, seconds: float = START_SECONDS) -> Any:
    """The JSON answer to a JSON request; `urllib.error.HTTPError` where the server refuses."""
    content = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(address, content, headers=headers)  # noqa: S310  # http, to our own server
    with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310  # http, to our own server
        return json.load(answer)


def fetch(address: str) -> str:
    """The text at an address."""
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310  # http, to our own server
        return str(answer.read().decode())


def _token(text: str) -> int:
    return int(text.removeprefix("token_id:"))


# ------------------------------------------------------------------------------------------------- servers


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def served(command: Sequence[str], address: str, *, log: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """A server of that command until the block ends, from when it calls itself healthy; gives its address."""
    with started(command, log, settings) as process:
        _wait(process, address, log)
        yield address


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, settings: Mapping[str, str] = VLLM_SETTINGS
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of that command until the block ends."""
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=environment(**settings), cwd=log.parent, start_new_session=True
        )
        try:
            yield process
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            fetch(f"{address}/health")
            return
        time.sleep(0.5)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-4000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it started: they are one process group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
