"""A vLLM that is up for measuring: it takes jobs as long as a run goes on.

1. Each question is a job file, known by its digest: what a folder holds already is read, and vLLM is not asked.
2. vLLM starts with the first job that is not there, with room for what was announced: adapters, or banks where one of
   the circuits is none that an adapter carries.
3. Its results are checked to be of that job, whole and finite.
"""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from neurodial.engines.job_results import JobResults, read_results
from neurodial.engines.vllm_adapters import Adapters, Banks, DialFiles
from neurodial.engines.vllm_process import POLL_SECONDS, Told, failed, started
from neurodial.engines.vllm_range import FAILURE, JOB, LOG, MEASURER, RESULTS, SESSION
from neurodial.errors import EngineError, ExportError
from neurodial.files import write_atomic
from neurodial.generation.decoding import Decoding
from neurodial.generation.running_engine import Continued, Each, RunningEngine
from neurodial.intervention.base import Intervention
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.passage import Passage
from neurodial.prompts.render import Tokens
from neurodial.provenance import describe, sha256

FORMAT = "neurodial.measured"


class MeasuredList(JobResults):
    """The results of a job.

    Attributes:
        results: one for each row, or for each adapter and row.
    """

    results: list[Any]


class VLLMSession(RunningEngine):
    """A vLLM that takes jobs.

    Args:
        subject: the model's shape and identity.
        source: what vLLM is to load.
        command: the interpreter of its environment, and vLLM's own options.
        asked: the engine and its version, as jobs name them.
        folder: of all jobs.
        is_kept: whether the folder stays after an error.
    """

    def __init__(
        self,
        subject: Subject,
        source: str,
        command: tuple[str, tuple[str, ...]],
        asked: Mapping[str, Any],
        folder: Path,
        *,
        is_kept: bool,
    ) -> None:
        self._subject, self._source, self._command = subject, source, command
        self._asked, self._folder, self._is_kept = asked, folder, is_kept
        self._dials: DialFiles = Adapters(subject, folder)
        self._record: Mapping[str, Any] = asked
        self._process: subprocess.Popen[bytes] | None = None
        self._told: Told | None = None
        self._room = 0
        self._stack = ExitStack()

    @property
    def asked(self) -> Mapping[str, Any]:
        return self._asked

    @property
    def record(self) -> Mapping[str, Any]:
        return self._record

    def accept(self, interventions: Sequence[Intervention]) -> None:
        try:
            for intervention in interventions:
                self._dials.name(intervention)
        except ExportError:
            if isinstance(self._dials, Banks):
                raise
            banks = Banks(self._subject, self._folder)
            for intervention in interventions:
                banks.name(intervention)
            self._dials = banks

    def answers(
        self, rows: Sequence[Tokens], under: Each, decoding: Decoding, stops: Sequence[int], progress: Progress = silent
    ) -> list[Tokens]:
        names = ("max_new_tokens", "temperature", "top_p", "seed")
        asked = [{"tokens": list(row), "adapter": self._name(each)} for row, each in zip(rows, under, strict=True)]
        how = {name: getattr(decoding, name) for name in names} | {"stops": list(stops)}
        found = self._done("answers", {"rows": asked, "decoding": how}, ("generating", len(rows)), progress)
        answers = [tuple(map(int, tokens)) for tokens in found]
        if len(answers) != len(rows) or any(len(answer) > decoding.max_new_tokens for answer in answers):
            raise _other("answers")
        return answers

    def log_likelihoods(self, rows: Sequence[Continued], under: Each, progress: Progress = silent) -> list[float]:
        asked = [
            {"tokens": list(row.tokens), "given": row.given, "adapter": self._name(each)}
            for row, each in zip(rows, under, strict=True)
        ]
        found = self._done("log_likelihoods", {"rows": asked}, ("scoring texts", len(rows)), progress)
        return _finite(found, len(rows))

    def divergences(
        self, passages: Sequence[Passage], under: Sequence[Intervention], progress: Progress = silent
    ) -> list[list[float]]:
        asked = [{"tokens": list(one.tokens), "given": one.prompt_length, "scored": one.scored} for one in passages]
        content = {"rows": asked, "adapters": [self._name(each) for each in under]}
        found = self._done("divergences", content, ("measuring divergence", len(passages)), progress)
        if len(found) != len(under):
            raise _other("divergences")
        return [_finite(sums, len(passages)) for sums in found]

    def close(self) -> None:
        """End vLLM, if it runs."""
        self._process, self._told = None, None
        self._stack.close()

    def _name(self, intervention: Intervention | None) -> str | None:
        return None if intervention is None else self._dials.name(intervention)

    def _done(self, kind: str, content: Mapping[str, Any], step: tuple[str, int], progress: Progress) -> list[Any]:
        """The results of a job: those that are there, or vLLM's."""
        if not content["rows"]:
            return []
        job = {
            "format": "neurodial.measure",
            "version": 1,
            "model": self._source,
            "run": dict(self._asked),
            "identity": describe(self._subject.identity),
            "kind": kind,
            **content,
        }
        text = json.dumps(job, ensure_ascii=False) + "\n"
        folder = self._folder / f"vllm-{sha256(text)[:12]}"
        if not (folder / RESULTS).exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / JOB, text, overwrite=True)
            with progress(step[0], step[1]) as advance:
                self._run(folder, advance)
        measured = read_measured(folder, sha256(text))
        self._record = measured.engine
        return measured.results

    def _run(self, folder: Path, advance: Callable[[int], None]) -> None:
        process, told = self._started()
        assert process.stdin is not None  # noqa: S101  # it was asked for
        try:
            process.stdin.write(f"{folder.name}\n".encode())
            process.stdin.flush()
        except OSError:  # it has ended: said below
            process.wait()
        code = None
        while code is None and not (folder / RESULTS).exists():
            time.sleep(POLL_SECONDS)
            code = process.poll()
            told.advanced(advance)
        told.advanced(advance)
        if not (folder / RESULTS).exists():
            self.close()
            raise failed(self._folder, code, is_kept=self._is_kept)

    def _started(self) -> tuple[subprocess.Popen[bytes], Told]:
        """vLLM, started where it is not, and anew where a circuit came that it has no room for."""
        if self._process is None or self._told is None or self._dials.size > self._room:
            self.close()
            self._room = self._dials.room
            session = {"model": self._source, **self._dials.session()}
            write_atomic(self._folder / SESSION, json.dumps(session) + "\n", overwrite=True)
            (self._folder / FAILURE).unlink(missing_ok=True)
            interpreter, options = self._command
            log = self._stack.enter_context((self._folder / LOG).open("wb"))
            command = [interpreter, "-m", MEASURER, str(self._folder), *options]
            self._process = self._stack.enter_context(
                started(command, log, is_asked=True, settings=self._dials.settings())
            )
            self._told = Told(self._stack.enter_context((self._folder / LOG).open("rb")))
        return self._process, self._told


def read_measured(folder: Path, digest: str) -> MeasuredList:
    """The results in a job's folder.

    Raises:
        EngineError: they are damaged, or of another job.
    """
    return read_results(MeasuredList, folder / RESULTS, FORMAT, digest, "measured for another job")


def _finite(values: Sequence[Any], count: int) -> list[float]:
    """Numbers, one for each row.

    Raises:
        EngineError: there are not as many, or one is not finite.
    """
    if len(values) != count or not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise _other("numbers")
    return [float(value) for value in values]


def _other(what: str) -> EngineError:
    return EngineError(
        f"vLLM gave {what} that can't be: too many, too few, or not finite.",
        wanted="one for each row",
        fix="Try --dtype float32; if it stays, please report it with the model and vLLM's options.",
    )
