"""Known data sets by name, from the Hub or from a file of the same columns.

A name gives prompts: harmful and harmless ones, or one kind alone. Nothing is downloaded unless it is asked for by
name, and a missing network says what to do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neurodial.errors import FileError, MissingPackageError, PromptError, UnknownNameError, near_names
from neurodial.prompts.read import read_rows

Kind = Literal["harmful", "safe", "neutral"]


@dataclass(frozen=True)
class Source:
    """Where a data set's prompts of one kind are.

    Attributes:
        hub: the Hub id.
        config: its configuration, or None.
        split: its split.
        column: the column that holds the prompt.
        keep: which rows: a column and the values that it must begin with.
        note: what to know before using it.
    """

    hub: str
    config: str | None
    split: str
    column: str
    keep: tuple[str, tuple[str, ...]] | None = None
    note: str = ""


@dataclass(frozen=True)
class DataSet:
    """A known data set.

    Attributes:
        title: one line.
        sources: where its prompts of each kind are.
    """

    title: str
    sources: Mapping[Kind, Source]


_GATED = "Gated: accept its terms on the Hub and log in first."
_JBB = "JailbreakBench/JBB-Behaviors"

DATASETS: dict[str, DataSet] = {
    "jbb": DataSet(
        "JBB-Behaviors: 100 harmful goals and 100 harmless ones of the same topics",
        {
            "harmful": Source(_JBB, "behaviors", "harmful", "Goal"),
            "safe": Source(_JBB, "behaviors", "benign", "Goal"),
        },
    ),
    "xstest": DataSet(
        "XSTest: safe prompts that sound unsafe, and unsafe contrasts",
        {
            "safe": Source("walledai/XSTest", None, "test", "prompt", ("label", ("safe",)), _GATED),
            "harmful": Source("walledai/XSTest", None, "test", "prompt", ("label", ("unsafe",)), _GATED),
        },
    ),
    "or-bench": DataSet(
        "OR-Bench hard: safe prompts that are often refused, and toxic ones",
        {
            "safe": Source("bench-llm/or-bench", "or-bench-hard-1k", "train", "prompt"),
            "harmful": Source("bench-llm/or-bench", "or-bench-toxic", "train", "prompt"),
        },
    ),
    "strongreject": DataSet(
        "StrongREJECT: 313 forbidden prompts",
        {"harmful": Source("walledai/StrongREJECT", None, "train", "prompt", note=_GATED)},
    ),
    "harmbench": DataSet(
        "HarmBench: standard behaviours",
        {"harmful": Source("walledai/HarmBench", "standard", "train", "prompt", note=_GATED)},
    ),
    "alpaca": DataSet(
        "Alpaca: harmless instructions without an input",
        {"neutral": Source("tatsu-lab/alpaca", None, "train", "instruction", ("input", ("",)))},
    ),
    "mmlu": DataSet(
        "MMLU: questions of 57 subjects, as plain prompts; for accuracy: evaluate --tasks mmlu",
        {"neutral": Source("cais/mmlu", "all", "test", "question")},
    ),
}
"""Data sets by the name that commands take."""

Load = Callable[[Source], Iterable[Mapping[str, Any]]]


def read_dataset(name: str, kind: Kind, *, limit: int | None = None, load: Load | None = None) -> tuple[str, ...]:
    """Prompts of one kind of a data set, each once, in its order.

    Args:
        name: a known name, or the path of a JSONL or CSV file with a column `prompt`, `Goal` or `instruction`.
        kind: harmful, safe or neutral; a file gives all its prompts.
        limit: at most this many.
        load: how rows are got; the Hub by default.

    Raises:
        UnknownNameError: neither a known name nor a file; offers near names.
        PromptError: the set has no prompts of this kind, or it can't be reached.
        MissingPackageError: the package datasets is not installed.

    Example:
        >>> rows = [{"Goal": "Pick a lock"}, {"Goal": "Pick a lock"}, {"Goal": "Fly"}]
        >>> read_dataset("jbb", "harmful", load=lambda source: rows)
        ('Pick a lock', 'Fly')
    """
    path = Path(name)
    if path.suffix in {".jsonl", ".csv"}:
        return _first(_file_prompts(path), limit, name)
    if name not in DATASETS:
        raise UnknownNameError(
            f"There is no data set {name!r}.",
            wanted="a known name, or a .jsonl or .csv file",
            fix=near_names(name, DATASETS),
        )
    source = DATASETS[name].sources.get(kind)
    if source is None:
        kinds = ", ".join(DATASETS[name].sources)
        raise PromptError(f"The data set {name!r} has no {kind} prompts.", wanted=f"one of: {kinds}")
    rows = (load or load_from_hub)(source)
    return _first((str(row[source.column]) for row in rows if _kept(row, source)), limit, name)


def load_from_hub(source: Source) -> Iterable[Mapping[str, Any]]:
    """The rows of a source, from the Hub or its cache.

    Raises:
        MissingPackageError: the package datasets is not installed.
        PromptError: the Hub can't be reached, or refuses.
    """
    if importlib.util.find_spec("datasets") is None:
        raise MissingPackageError("Data sets from the Hub need datasets.", fix="pip install 'neurodial[eval]'")
    from datasets import load_dataset

    try:
        rows: Iterable[Mapping[str, Any]] = load_dataset(source.hub, source.config, split=source.split)
    except Exception as error:
        # datasets raises errors of the Hub, of requests, of pyarrow and its own; all mean that the data is not here.
        raise PromptError(
            f"The data set {source.hub} can't be loaded: {str(error).splitlines()[0] if str(error) else error!r}",
            fix=f"{source.note} Go online without HF_HUB_OFFLINE once, and it stays in the cache; or save it as JSONL "
            f"with a column {source.column!r} and give the file's path instead of the name.".strip(),
        ) from error
    return rows


def _kept(row: Mapping[str, Any], source: Source) -> bool:
    if source.keep is None:
        return True
    column, values = source.keep
    return str(row.get(column, "")) in values


def _file_prompts(path: Path) -> Iterable[str]:
    if not path.is_file():
        raise FileError(f"There is no file {path}.", wanted="a JSONL or CSV file of prompts")
    for place, row in read_rows(path):
        found = next((row[key] for key in ("prompt", "Goal", "instruction", "question") if row.get(key)), None)
        if not isinstance(found, str):
            raise PromptError(f"{place} holds no prompt.", wanted="a column prompt, Goal, instruction or question")
        yield found


def _first(prompts: Iterable[str], limit: int | None, name: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(prompt.strip() for prompt in prompts if prompt.strip()))[:limit]
    if not found:
        raise PromptError(f"The data set {name!r} gave no prompts.", wanted="at least one")
    return found
