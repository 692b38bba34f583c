"""A process of vLLM's, as this side sees it: started, ended with all that it starts, and why it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from neurodial.engines.vllm_exports import FOLDERS, LIMIT
from neurodial.engines.vllm_range import ADVANCE, FAILURE, LOG, WAITING
from neurodial.engines.vllm_settings import SLOTS
from neurodial.errors import EngineError

POLL_SECONDS = 0.1


class Told:
    """What the other side says on its output about how far it is.

    Args:
        log: the file that its output goes to, opened for reading.
    """

    def __init__(self, log: IO[bytes]) -> None:
        self._log, self._rest = log, b""

    def advanced(self, advance: Callable[[int], None]) -> None:
        """Pass on what was said since the last time."""
        *lines, self._rest = (self._rest + self._log.read()).split(b"\n")
        for line in lines:
            if line.startswith(ADVANCE.encode()):
                advance(int(line.removeprefix(ADVANCE.encode())))


@contextmanager
def started(
    command: Sequence[str], log: IO[bytes], *, is_asked: bool = False, settings: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all that it starts, ended with the block.

    Args:
        command: its own.
        log: what its output goes to.
        is_asked: whether it has an input that is written to.
        settings: environment variables beside this process's.
    """
    process = subprocess.Popen(  # noqa: S603  # the interpreter that the user named
        command,
        stdin=subprocess.PIPE if is_asked else None,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment() | dict(settings or {}),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM if process.poll() is None else signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            with suppress(OSError):  # what was not taken any more
                process.stdin.close()


def environment() -> dict[str, str]:
    """This process's environment without what would lead another interpreter to our packages, or our plugin to work."""
    left_out = {"PYTHONPATH", FOLDERS, LIMIT, SLOTS}
    return {name: value for name, value in os.environ.items() if name not in left_out} | {WAITING: str(os.getpid())}


def failed(folder: Path, code: int | None, *, is_kept: bool) -> EngineError:
    """Why a process failed: what it wrote down itself, or else the last errors of its output."""
    with suppress(OSError, ValueError):
        return EngineError(**json.loads((folder / FAILURE).read_text(encoding="utf-8")))
    lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    told = deque((line.strip() for line in lines if "Error" in line or "error:" in line), maxlen=3)
    return EngineError(
        f"vLLM ended with {code}: {' | '.join(told or lines[-3:])}",
        wanted="a run to the end",
        fix=f"Its whole output is in {folder / LOG}." if is_kept else "Name a folder, which keeps its whole output.",
    )
