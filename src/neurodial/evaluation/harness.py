"""Benchmarks of lm-evaluation-harness on the live steered model.

1. A task is a name that the harness knows (`mmlu`, `arc_easy` …), or the path of a task file; a task file's data
   files are found beside it, so a task with local data needs no network.
2. The harness gets the model itself, inside a `with steer(...)` block, so it measures what is steered.
3. Results are cached per condition in the report's folder where there is one.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path
from typing import Any

from neurodial.errors import FileError, MissingPackageError, OptionError, UnknownNameError, near_names
from neurodial.evaluation.options import HarnessOptions
from neurodial.intervention.base import Intervention
from neurodial.intervention.steer import steer
from neurodial.model.generation_settings import plain_generation
from neurodial.model.subject import Subject

_FEWSHOT_SEED = 1234
_MAIN = ("acc,none", "exact_match,none", "acc_norm,none")


@dataclass(frozen=True)
class TaskResult:
    """What a task gave.

    Attributes:
        task: its name.
        measure: the harness's name of the number.
        value: the number.
        stderr: its standard error as the harness gives it; 0 where it gives none.
        n: documents.
        version: of the task.
    """

    task: str
    measure: str
    value: float
    stderr: float
    n: int
    version: str


def check_tasks(tasks: Sequence[str]) -> None:
    """Refuse, before any work, tasks that there are not, and a harness that is not installed.

    Raises:
        MissingPackageError: lm-eval is not installed.
        UnknownNameError: no such task; offers near names.
        FileError: a task file can't be read.
    """
    if not tasks:
        return
    _require()
    for task in tasks:
        if _is_file(task):
            read_task_file(Path(task))
    named = [task for task in tasks if not _is_file(task)]
    known = set(_manager(shipped=True).all_tasks) if named else set()
    for task in named:
        if task not in known:
            raise UnknownNameError(
                f"lm-evaluation-harness has no task {task!r}.",
                wanted="a task's name, or the path of a task file (.yaml)",
                fix=near_names(task, known, listed_by="lm_eval ls tasks"),
            )


def run_tasks(
    subject: Subject, intervention: Intervention | None, options: HarnessOptions, *, cache: Path | None = None
) -> list[TaskResult]:
    """Run tasks on the model under an intervention.

    Raises:
        MissingPackageError: lm-eval is not installed.
        OptionError: a task's data can't be had, for example because there is no network; or the intervention acts only
            on some prompts.
    """
    if intervention is not None and intervention.compile(subject).choices is not None:
        raise OptionError(
            "The harness does not say where its prompts end, so a condition on them can't be decided.",
            wanted="tasks of our own (mmlu, mmlu:FILE), or a circuit without a condition",
            fix="Leave out --tasks, or measure the circuit without it (--condition none).",
        )
    _require()
    from lm_eval.api.model import CachingLM
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    for name in ("lm_eval", "lm-eval", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    wrapped = HFLM(
        pretrained=subject.model,
        tokenizer=subject.tokenizer,
        batch_size=options.batch_size,
        device=str(subject.device),
        max_length=subject.context_length,
        chat_template_args=dict(subject.template.options),
    )
    try:
        steering = steer(subject, *([] if intervention is None else [intervention]))
        with steering, plain_generation(subject.model):
            output = evaluate(
                lm=wrapped if cache is None else CachingLM(wrapped, f"{cache}.db"),
                task_dict=_loaded(options),
                limit=options.limit,
                apply_chat_template=options.chat,
                bootstrap_iters=0,
                log_samples=False,
            )
    except (OSError, ConnectionError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else repr(error)
        raise OptionError(
            f"The tasks {', '.join(options.tasks)} can't be run: {said}",
            fix="Their data come from the Hub: go online without HF_HUB_OFFLINE, or pass a task file with local data.",
        ) from error
    return [] if output is None else _results(output)


def _loaded(options: HarnessOptions) -> Any:
    """The tasks, with the number of examples that was asked for.

    The harness's own list takes long to read: it is read once, and only where a task is named, not brought as a file.
    """
    tasks: list[Any] = [read_task_file(Path(task)) if _is_file(task) else task for task in options.tasks]
    loaded = _manager(shipped=any(isinstance(task, str) for task in tasks)).load(tasks)
    for task in loaded["tasks"].values():
        own = task.get_config("num_fewshot")
        if own is None or (options.fewshot is not None and own != 0):
            task.set_config(key="num_fewshot", value=options.fewshot or 0)
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    return loaded


@remember
def _manager(*, shipped: bool) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=shipped)


def read_task_file(path: Path) -> dict[str, Any]:
    """A task file, with the data files that stand beside it found from there.

    Raises:
        FileError: it can't be read, or names no task.
    """
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FileError(f"The task file {path} can't be read: {error}.", wanted="a YAML file without code") from error
    if not isinstance(value, dict) or not isinstance(value.get("task"), str):
        raise FileError(f"{path} is no task file.", wanted="a YAML mapping with `task` and `doc_to_text`")
    keywords = value.get("dataset_kwargs") or {}
    files = keywords.get("data_files")
    is_local = value.get("dataset_path") in {"json", "csv", "parquet", "text"}
    if not ({"dataset_path", "custom_dataset", "include"} & value.keys()) or (is_local and not files):
        raise FileError(
            f"The task file {path} names no data.", wanted="`dataset_path`, with `data_files` where the data is local"
        )
    if files is not None:
        value["dataset_kwargs"] = {**keywords, "data_files": _beside(files, path.parent.resolve())}
        _refuse_missing(path, value["dataset_kwargs"]["data_files"])
    return value


def _refuse_missing(task: Path, files: Any) -> None:
    """Data files that are not there; patterns and addresses are left to the harness."""
    named = files.values() if isinstance(files, Mapping) else files if isinstance(files, list) else [files]
    for file in named:
        if not isinstance(file, str):
            _refuse_missing(task, file)
        elif not set(file) & set("*?[") and "://" not in file and not Path(file).exists():
            raise FileError(f"The data file {file} of the task file {task} is not there.", wanted="a path beside it")


def _beside(files: Any, folder: Path) -> Any:
    if isinstance(files, Mapping):
        return {key: _beside(item, folder) for key, item in files.items()}
    if isinstance(files, list):
        return [_beside(item, folder) for item in files]
    return str(folder / files)


def _results(output: Mapping[str, Any]) -> list[TaskResult]:
    results = []
    for task, values in output["results"].items():
        measure = next((name for name in _MAIN if isinstance(values.get(name), int | float)), None)
        if measure is None:
            measure = next((name for name, v in values.items() if isinstance(v, float) and "stderr" not in name), None)
        if measure is None:
            continue
        name, _, kind = measure.partition(",")
        error = values.get(f"{name}_stderr,{kind}")
        counts = output.get("n-samples", {}).get(task) or {}
        number = int(values.get("sample_len", counts.get("effective", 0)) or 0)
        value = float(values[measure])
        if not isinstance(error, int | float):
            error = (value * (1 - value) / number) ** 0.5 if number and 0 <= value <= 1 else 0.0
        version = str(output.get("versions", {}).get(task, ""))
        results.append(TaskResult(task, name, value, float(error), number, version))
    return results


def _is_file(task: str) -> bool:
    return task.endswith((".yaml", ".yml"))


def _require() -> None:
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingPackageError("Harness tasks need lm-eval.", fix="pip install 'neurodial[eval]'")
