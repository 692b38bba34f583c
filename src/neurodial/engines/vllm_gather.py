"""Runs a gathering job in vLLM: `python -m neurodial.engines.vllm_gather FOLDER [any option of vLLM's]`.

It runs in vLLM's own environment and imports the standard library, torch and vllm alone (and this package, installed
there without its dependencies). The folder holds `job.json`; what is gathered goes beside it.

1. Options that would make what is gathered wrong are refused, before vLLM starts.
2. vLLM starts, without compiling, with `vllm_worker` in each of its processes.
3. The prompts run as token ids, one token each to generate, in runs whose activations fit the memory.
4. After each run every process hands over its part of each site, which goes to a file of its own.
5. `gathered.json` is written last: it says that all is there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurodial.engines.vllm_range import ADVANCE, JOB, MANIFEST
from neurodial.engines.vllm_rows import TAG
from neurodial.engines.vllm_start import (
    Refused,
    dtype_of,
    engine_arguments,
    record_of,
    run_until_done,
    write_whole,
)
from neurodial.errors import EngineError

RUN_BYTES = 2**30
"""Activations of one run of prompts over all processes, in float32."""

WORKER = "neurodial.engines.vllm_worker.NeurodialGathering"

REFUSED: Refused = {
    "data_parallel_size": ((None, 1), "with data parallelism each copy of the model sees other prompts"),
    "speculative_config": ((None,), "with speculative decoding steps hold tokens that are thrown away"),
    "spec_model": ((None,), "with speculative decoding steps hold tokens that are thrown away"),
    "enable_lora": ((None, False), "a LoRA beside it would change what is read"),
    "kv_sharing_fast_prefill": ((None, False), "fast prefill leaves out tokens in the later layers"),
    "enable_dbo": ((None, False), "dual batches change the order of rows"),
    "prefill_context_parallel_size": ((None, 1), "context parallelism spreads a prompt's tokens"),
    "decode_context_parallel_size": ((None, 1), "context parallelism spreads a prompt's tokens"),
    "enable_eplb": ((None, False), "balancing moves experts while it runs"),
    "kv_transfer_config": ((None,), "keys and values that come from elsewhere leave prompts uncomputed"),
    "worker_extension_cls": ((None, "", WORKER), "the worker's extension is ours here"),
}
_FIX = "Leave it out: finding neurons is one pass over some hundred prompts."


def runs_of(prompts: int, neurons: int) -> Iterator[tuple[int, int]]:
    """Runs of prompts whose activations fit the memory: the first, and the one after the last.

    Example:
        >>> list(runs_of(5, RUN_BYTES // 8))
        [(0, 2), (2, 4), (4, 5)]
    """
    size = max(1, RUN_BYTES // (4 * neurons))
    for first in range(0, prompts, size):
        yield first, min(first + size, prompts)


def gather(folder: Path, options: Sequence[str]) -> None:
    """Run the job of a folder.

    Raises:
        EngineError: an option or a version is refused, or something was not as it has to be.
    """
    text = (folder / JOB).read_text(encoding="utf-8")
    job = json.loads(text)
    engine = _started(job, options)
    described = engine.collective_rpc("neurodial_install", args=(text,))
    _refuse_trouble(each.get("trouble") for each in described)
    _check_sites(job, described)
    neurons = sum(math.prod(site["shape"]) for site in job["sites"])
    pieces: list[dict[str, Any]] = []
    for first, last in runs_of(len(job["prompts"]), neurons):
        engine.collective_rpc("neurodial_begin", args=(first, last))
        _generate(engine, job["prompts"][first:last], first)
        _refuse_trouble(engine.collective_rpc("neurodial_trouble"))
        for site in job["sites"]:
            pieces += _taken(engine, folder, site["name"], described, (first, last))
        sys.stdout.write(f"{ADVANCE}{last - first}\n")
        sys.stdout.flush()
    _write(folder, text, engine, described, options, pieces)


def _started(job: Mapping[str, Any], options: Sequence[str]) -> Any:
    """A vLLM with the user's options and ours."""
    from vllm import LLM

    arguments = engine_arguments(job["model"], options, REFUSED, _FIX)
    arguments.enforce_eager = True  # in a compiled model hooks never run, without a word
    arguments.worker_extension_cls = WORKER
    os.environ.setdefault("VLLM_DISABLE_SHARED_EXPERTS_STREAM", "1")  # all neurons of a step on one stream
    if arguments.max_model_len is None:
        arguments.max_model_len = max(len(prompt["tokens"]) for prompt in job["prompts"]) + 1
    return LLM.from_engine_args(arguments)


def _refuse_trouble(told: Iterable[str | None]) -> None:
    """Refuse what any process found wrong."""
    trouble = next(filter(None, told), None)
    if trouble:
        raise EngineError(f"In vLLM {trouble}.", wanted="a model and a way of running it that can be read")


def _check_sites(job: Mapping[str, Any], described: Sequence[Mapping[str, Any]]) -> None:
    """Refuse, before any prompt runs, a model whose sites are not those of the job."""
    here = {part["site"] for each in described for part in each["parts"]}
    missing = [site for site in job["sites"] if site["name"] not in here]
    if missing:
        first = f"{missing[0]['block']}.{missing[0]['inside']}"
        raise EngineError(
            f"vLLM's model lacks {len(missing)} modules that the job names, such as {first}.",
            wanted="the model that the job is for, in an implementation of vLLM's own",
            fix="Is it the same model? vLLM may know its architecture by modules of other names: please report it.",
        )


def _generate(engine: Any, prompts: Sequence[Mapping[str, Any]], first: int) -> None:
    from vllm import SamplingParams

    engine.generate(
        [{"prompt_token_ids": prompt["tokens"]} for prompt in prompts],
        [
            # Nothing is read from the prefix cache: every token that is read is computed.
            SamplingParams(
                max_tokens=1, temperature=0.0, detokenize=False, skip_reading_prefix_cache=True,
                extra_args={TAG: number},
            )
            for number, _ in enumerate(prompts, start=first)
        ],
        use_tqdm=False,
    )  # fmt: skip


def _taken(
    engine: Any, folder: Path, site: str, described: Sequence[Mapping[str, Any]], run: tuple[int, int]
) -> Iterator[dict[str, Any]]:
    """Write each process's part of a site, and describe it."""
    contents = engine.collective_rpc("neurodial_take", args=(site,))
    for process, content in zip(described, contents, strict=True):
        part = next((part for part in process["parts"] if part["site"] == site), None)
        if part is not None:
            name = f"{site}-{run[0]}-{process['rank']}.safetensors"
            (folder / name).write_bytes(content)
            yield {"file": name, "rank": process["rank"], "first": run[0], "last": run[1], **part}


def _write(
    folder: Path, job: str, engine: Any, described: Sequence[Mapping[str, Any]], options: Sequence[str],
    pieces: list[dict[str, Any]],
) -> None:  # fmt: skip
    """Write the list of all pieces, the whole of it or nothing."""
    value = {
        "format": "neurodial.gathered",
        "version": 1,
        "job": hashlib.sha256(job.encode()).hexdigest(),
        "dtype": dtype_of(engine),
        "engine": {
            **record_of(engine, options),
            "model_runner": sorted({process["runner"] for process in described}),
        },
        "pieces": pieces,
    }
    write_whole(folder / MANIFEST, value)


if __name__ == "__main__":
    run_until_done(gather)
