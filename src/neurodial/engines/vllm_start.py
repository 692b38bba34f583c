"""Starting vLLM for a job, on vLLM's own side: its options, what is refused, and how the side that waits is told.

It runs in vLLM's own environment and imports the standard library, torch and vllm alone (and this package, installed
there without its dependencies).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurodial.engines.vllm_range import FAILURE, WAITING, check_version
from neurodial.errors import EngineError

Refused = Mapping[str, tuple[tuple[Any, ...], str]]
"""Options by name: the values that do no harm, and why others would."""


def refuse_options(arguments: Any, model: str, refused: Refused, fix: str) -> None:
    """Refuse options under which what comes out would be wrong.

    Args:
        arguments: vLLM's engine arguments.
        model: that the job is for.
        refused: the options.
        fix: what to do instead.

    Raises:
        EngineError: names the option, and why.

    Example:
        >>> from types import SimpleNamespace
        >>> two = SimpleNamespace(model="m", data_parallel_size=2)
        >>> refuse_options(two, "m", {"data_parallel_size": ((1,), "each copy sees other prompts")}, "Leave it out.")
        Traceback (most recent call last):
        neurodial.errors.EngineError: vLLM's option --data-parallel-size is 2: each copy sees other prompts. ...
    """
    for name, (harmless, reason) in refused.items():
        value = getattr(arguments, name, None)
        if value not in harmless:
            raise EngineError(
                f"vLLM's option --{name.replace('_', '-')} is {value}: {reason}.",
                wanted="vLLM without it",
                fix=fix,
            )
    if arguments.model != model:
        raise EngineError(f"vLLM is told to load {arguments.model}.", wanted=f"{model}, which the job is for")


def engine_arguments(model: str, options: Sequence[str], refused: Refused, fix: str) -> Any:
    """The engine arguments of vLLM from the user's options, after what is refused.

    Raises:
        EngineError: vLLM was not tested in this version, or an option is refused.
    """
    import vllm
    from vllm import EngineArgs
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    check_version(vllm.__version__)
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser(prog="vLLM's options"))
    arguments = EngineArgs.from_cli_args(parser.parse_args(["--model", model, *options]))
    refuse_options(arguments, model, refused, fix)
    arguments.disable_log_stats = True
    return arguments


def record_of(engine: Any, options: Sequence[str]) -> dict[str, Any]:
    """An engine that runs, for what is kept of a job: version, quantisation, sizes and options."""
    import vllm

    config = engine.llm_engine.vllm_config
    parallel = config.parallel_config
    return {
        "name": "vllm",
        "version": vllm.__version__,
        "quantisation": config.model_config.quantization,
        "tensor_parallel": parallel.tensor_parallel_size,
        "pipeline_parallel": parallel.pipeline_parallel_size,
        "expert_parallel": parallel.enable_expert_parallel,
        "nodes": parallel.nnodes,
        "options": without_secrets(options),
    }


def dtype_of(engine: Any) -> str:
    """The name of the type that an engine computes in."""
    return str(engine.llm_engine.vllm_config.model_config.dtype).removeprefix("torch.")


def write_whole(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, the whole of it or nothing."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


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


def run_until_done(run: Callable[[Path, Sequence[str]], None]) -> None:
    """Run with the folder and the options of the command line; what is refused goes to `failed.json`."""
    if os.environ.get(WAITING) == str(os.getppid()):
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    folder = Path(sys.argv[1])
    try:
        run(folder, sys.argv[2:])
    except EngineError as error:
        value = {"problem": error.problem, "wanted": error.wanted, "fix": error.fix}
        (folder / FAILURE).write_text(json.dumps(value), encoding="utf-8")
        sys.exit(f"neurodial: {error}")


def _end_with(waiting: int) -> None:
    """End this process and all that it started once the process that waits for it is gone."""
    while os.getppid() == waiting:
        time.sleep(1)
    os.killpg(os.getpgrp(), signal.SIGKILL)
