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
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurodial.engines.vllm_range import ADVANCE, FAILURE, JOB, MANIFEST, WAITING, check_version
from neurodial.engines.vllm_rows import TAG
from neurodial.errors import EngineError

RUN_BYTES = 2**30
"""Activations of one run of prompts over all processes, in float32."""

WORKER = "neurodial.engines.vllm_worker.NeurodialGathering"

_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
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
"""Options by name: the values that do no harm, and why others would."""


def refuse_options(arguments: Any, model: str) -> None:
    """Refuse options under which what is gathered would be wrong.

    Args:
        arguments: vLLM's engine arguments.
        model: that the job is for.

    Raises:
        EngineError: names the option, and why.

    Example:
        >>> from types import SimpleNamespace
        >>> refuse_options(SimpleNamespace(model="m", data_parallel_size=2), "m")
        Traceback (most recent call last):
        neurodial.errors.EngineError: vLLM's option --data-parallel-size is 2: with data parallelism each copy of ...
    """
    for name, (harmless, reason) in _REFUSED.items():
        value = getattr(arguments, name, None)
        if value not in harmless:
            raise EngineError(
                f"vLLM's option --{name.replace('_', '-')} is {value}: {reason}.",
                wanted="tensor, pipeline and expert parallelism alone",
                fix="Leave it out: finding neurons is one pass over some hundred prompts.",
            )
    if arguments.model != model:
        raise EngineError(f"vLLM is told to load {arguments.model}.", wanted=f"{model}, which the job is for")


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
    import vllm
    from vllm import LLM, EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    check_version(vllm.__version__)
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser(prog="vLLM's options"))
    typed = parser.parse_args(["--model", job["model"], *options])
    arguments = EngineArgs.from_cli_args(typed)
    refuse_options(arguments, job["model"])
    arguments.enforce_eager = True  # in a compiled model hooks never run, without a word
    arguments.worker_extension_cls = WORKER
    arguments.disable_log_stats = True
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
    import vllm

    config = engine.llm_engine.vllm_config
    parallel = config.parallel_config
    value = {
        "format": "neurodial.gathered",
        "version": 1,
        "job": hashlib.sha256(job.encode()).hexdigest(),
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "engine": {
            "name": "vllm",
            "version": vllm.__version__,
            "quantisation": config.model_config.quantization,
            "tensor_parallel": parallel.tensor_parallel_size,
            "pipeline_parallel": parallel.pipeline_parallel_size,
            "expert_parallel": parallel.enable_expert_parallel,
            "nodes": parallel.nnodes,
            "model_runner": sorted({process["runner"] for process in described}),
            "options": without_secrets(options),
        },
        "pieces": pieces,
    }
    unfinished = folder / f"{MANIFEST}.new"
    unfinished.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / MANIFEST)


def _end_with(waiting: int) -> None:
    """End this process and all that it started once the process that waits for it is gone."""
    while os.getppid() == waiting:
        time.sleep(1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def without_secrets(options: Sequence[str]) -> list[str]:
    """The options as they may be written down.

    Example:
        >>> without_secrets(["--hf-token", "hf_1", "--dtype", "auto", "--hf_token=hf_1"])
        ['--hf-token', '...', '--dtype', 'auto', '--hf_token=...']
    """
    told: list[str] = []
    for option in options:
        is_value = bool(told) and told[-1] in {"--hf-token", "--hf_token"}
        name, equals, _ = option.partition("=")
        is_joined = bool(equals) and name in {"--hf-token", "--hf_token"}
        told.append("..." if is_value else f"{name}=..." if is_joined else option)
    return told


def main() -> None:
    """Run the job; what is refused goes to `failed.json`, for the side that waits."""
    if os.environ.get(WAITING) == str(os.getppid()):
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    folder = Path(sys.argv[1])
    try:
        gather(folder, sys.argv[2:])
    except EngineError as error:
        value = {"problem": error.problem, "wanted": error.wanted, "fix": error.fix}
        (folder / FAILURE).write_text(json.dumps(value), encoding="utf-8")
        sys.exit(f"neurodial: {error}")


if __name__ == "__main__":
    main()
