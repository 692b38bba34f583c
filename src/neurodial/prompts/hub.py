"""Known data sets by name, from the Hub or from a file of the same columns.

A name gives prompts: harmful and harmless ones, or one kind alone. Nothing is downloaded unless its
name is given; without a network, the error says what to do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neurodial.errors import FileError, MissingPackageError, PromptError, UnknownNameError, near_names
from neurodial.prompts.columns import LABELS, NEGATIVES, POSITIVES, present, unread_columns
from neurodial.prompts.lists import listed_rows
from neurodial.prompts.prompt import Prompt
from neurodial.prompts.records import log_notes, refuse_quotes, row_records, stripped
from neurodial.prompts.rows import ENDINGS, Row, kind_of, read_text, text_rows

Kind = Literal["harmful", "safe", "neutral"]
_KINDS: tuple[Kind, ...] = ("harmful", "safe", "neutral")


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


def read_dataset(name: str, kind: Kind, *, limit: int | None = None, load: Load | None = None) -> tuple[Prompt, ...]:
    """Prompts of one kind of a data set, each once, in its order.

    Args:
        name: a known name, or the path of a file of prompts, with labels or without.
        kind: harmful, safe or neutral; a file without labels gives all its prompts.
        limit: at most this many.
        load: how rows are loaded; the Hub by default.

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
    if is_file(name):
        return _first(file_sides(path, kind).prompts[kind], limit, name)
    if name not in DATASETS:
        raise UnknownNameError(
            f"There is no data set {name!r}.",
            wanted=f"a known name, or a file ({', '.join(ENDINGS)})",
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


def is_file(name: str) -> bool:
    """Whether a test set's name is meant as the path of a file."""
    path = Path(name)
    return path.suffix.casefold() in ENDINGS or (name not in DATASETS and path.is_file())


@dataclass(frozen=True)
class Sides:
    """The prompts of a user's file by their kind, and notes on how it was read."""

    prompts: Mapping[Kind, tuple[Prompt, ...]]
    notes: tuple[str, ...]


def file_sides(path: Path, kind: Kind = "harmful") -> Sides:
    """The prompts of a user's file: harmful and safe ones by its labels; without labels all are of the kind asked for.

    Labels are in a column `label` (or `is_harmful`, `is_safe`), or as two columns, `positive` and `negative`; a
    `type` that begins with `contrast_` is how XSTest marks its unsafe prompts.

    Raises:
        FileError: the file can't be read.
        PromptError: a line holds no prompt, or a label that is not known; names the line.
    """
    if not path.is_file():
        raise FileError(f"There is no file {path}.", wanted=f"a file of prompts ({', '.join(ENDINGS)})")
    text = read_text(path)
    is_table = kind_of(text, path.suffix) == "table"
    rows, notes = stripped(_with_labels(text_rows(text, path.name, path.suffix)), is_table=is_table)
    if any(present(row, (*LABELS, *POSITIVES, *NEGATIVES)) for _, row in rows):
        records = row_records(path.name, rows, notes)
        log_notes(records.notes)
        harmful, safe = (
            tuple(item.example.prompt for item in records.placed if item.side == side)
            for side in ("positive", "negative")
        )
        return Sides({"harmful": harmful, "safe": safe, "neutral": ()}, records.notes)
    listed, used = listed_rows(rows)
    notes += unread_columns(rows, used, readable=("prompt", "split", "label"))
    notes.append(f"no column label: all {len(listed)} prompts are taken as {kind} ones")
    refuse_quotes(path.name, [row.prompt for row in listed])
    labelled_notes = tuple(f"{path.name}: {note}" for note in notes)
    log_notes(labelled_notes)
    return Sides({**dict.fromkeys(_KINDS, ()), kind: tuple(row.prompt for row in listed)}, labelled_notes)


def _with_labels(rows: Sequence[Row]) -> Sequence[Row]:
    """Rows with XSTest's types as labels, where they have no others."""
    unsafe = [str(row.get("type", "")).strip().casefold().startswith("contrast_") for _, row in rows]
    if not any(unsafe) or any(present(row, LABELS) for _, row in rows):
        return rows
    labels = ["unsafe" if is_unsafe else "safe" for is_unsafe in unsafe]
    return [(place, {**row, "label": label}) for (place, row), label in zip(rows, labels, strict=True)]


def _first(prompts: Iterable[Prompt], limit: int | None, name: str) -> tuple[Prompt, ...]:
    stripped_prompts = (prompt.strip() if isinstance(prompt, str) else prompt for prompt in prompts)
    distinct = tuple(dict.fromkeys(prompt for prompt in stripped_prompts if prompt))[:limit]
    if not distinct:
        raise PromptError(f"The data set {name!r} gave no prompts.", wanted="at least one")
    return distinct
