"""MMLU's questions (arXiv 2009.03300), from a file, a folder or the Hub, drawn with a seed.

- `mmlu`: `cais/mmlu` from the Hub or its cache. `mmlu:OWNER/NAME`: another data set of the same columns there.
- `mmlu:FILE`: JSON lines of `subject`, `question`, `choices` and `answer` (a letter, or the place from 0 as on the
  Hub); the development questions are `dev.jsonl` beside it.
- `mmlu:FOLDER`: such a file `test*.jsonl` with `dev.jsonl`, or a data set as the Hub keeps them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurodial.errors import FileError, OptionError, PromptError
from neurodial.evaluation.options import HarnessOptions
from neurodial.evaluation.questions import ChoiceQuestion
from neurodial.prompts.hub import DATASETS, Source, load_from_hub
from neurodial.prompts.read import read_rows
from neurodial.provenance import canonical_json, sha256

NAME = "mmlu"
SHOTS = 5
"""Development questions before each question, where the options leave it open."""
MOST_SHOTS = 5
QUESTIONS = 1000
"""Questions drawn where the options leave it open: as many as arXiv 2605.12290 takes."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class QuestionSet:
    """Questions and the worked examples that stand before them.

    Attributes:
        questions: what is asked.
        examples: development questions of each subject, as many as `shots`.
        shots: how many stand before each question.
        source: where they came from.
        available: how many questions there were to draw from.
        seed: of the draw.
    """

    questions: tuple[ChoiceQuestion, ...]
    examples: Mapping[str, tuple[ChoiceQuestion, ...]]
    shots: int
    source: str
    available: int
    seed: int

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects of the questions, sorted."""
        return tuple(sorted({question.subject for question in self.questions}))

    @property
    def digest(self) -> str:
        """A hash of every question and example."""
        examples = [[vars(example) for example in self.examples[subject]] for subject in self.subjects]
        used = [[vars(question) for question in self.questions], examples]
        return sha256(canonical_json(used))


def is_mmlu(task: str) -> bool:
    """Whether a task is scored here, not by lm-evaluation-harness.

    Example:
        >>> is_mmlu("mmlu"), is_mmlu("mmlu:data/test.jsonl"), is_mmlu("mmlu_stem")
        (True, True, False)
    """
    return task == NAME or task.startswith(f"{NAME}:")


def mmlu_set(options: HarnessOptions) -> QuestionSet | None:
    """The questions that the options ask for; None where they ask for no MMLU.

    Raises:
        OptionError: two of them, or a number of shots that there are not.
        FileError, PromptError: the data can't be read; see `read_mmlu`.
    """
    own = [task for task in options.tasks if is_mmlu(task)]
    if not own:
        return None
    if len(own) > 1:
        raise OptionError(f"MMLU is asked for twice: {', '.join(own)}.", wanted="one set of questions in a run")
    _, _, place = own[0].partition(":")
    if own[0] != NAME and not place:
        raise OptionError(f"The task {own[0]!r} names no data.", wanted="mmlu, mmlu:FILE.jsonl or mmlu:FOLDER")
    shots = SHOTS if options.fewshot is None else options.fewshot
    return read_mmlu(place or None, shots=shots, limit=options.limit or QUESTIONS, seed=options.seed)


def read_mmlu(
    place: str | None = None, *, shots: int = SHOTS, limit: int | None = QUESTIONS, seed: int = 0
) -> QuestionSet:
    """Read questions and their development questions, and draw.

    Args:
        place: a file, a folder or a Hub id; None for `cais/mmlu` on the Hub.
        shots: development questions before each question, 0 to 5.
        limit: at most this many questions, drawn over all subjects; None for all.
        seed: of the draw.

    Raises:
        OptionError: the number of shots is not from 0 to 5.
        FileError: there is no such file or folder, or it holds no questions.
        PromptError: a question lacks a column or has an answer that is none of its choices, or a subject has too few
            development questions.
        MissingPackageError: the package datasets is not installed, and the data has to come through it.
    """
    if not 0 <= shots <= MOST_SHOTS:
        raise OptionError(f"{shots} development questions are asked for.", wanted=f"0 to {MOST_SHOTS}")
    test, dev, source = _read(place, with_examples=shots > 0)
    if not test:
        raise FileError(f"{source} holds no questions.", wanted="a row of subject, question, choices and answer each")
    drawn = test
    if limit is not None and limit < len(test):
        drawn = [test[n] for n in sorted(random.Random(seed).sample(range(len(test)), limit))]
    examples = {subject: _examples(subject, dev, shots, source) for subject in sorted({q.subject for q in drawn})}
    return QuestionSet(tuple(drawn), examples, shots, source, len(test), seed)


def _read(place: str | None, *, with_examples: bool) -> tuple[list[ChoiceQuestion], list[ChoiceQuestion], str]:
    if place is None:
        hub = DATASETS[NAME].sources["neutral"].hub
        return *_through_datasets(hub, with_examples=with_examples), hub
    path = Path(place)
    if path.is_dir():
        files = sorted(path.glob("test*.jsonl"))
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise FileError(f"{path} holds several files of questions: {names}.", fix=f"Name one: mmlu:{files[0]}")
        if not files:
            return *_through_datasets(place, with_examples=with_examples), path.name
        path = files[0]
    elif not path.exists() and place.count("/") == 1 and not path.suffix and not place.startswith("."):
        return *_through_datasets(place, with_examples=with_examples), place
    if path.suffix != ".jsonl" or not path.is_file():
        raise FileError(
            f"There is no file of questions {path}.", wanted="a .jsonl file, a folder that holds one, or a Hub id"
        )
    beside = path.parent / "dev.jsonl"
    if with_examples and not beside.is_file():
        raise FileError(
            f"{path} has no development questions beside it.",
            wanted=str(beside),
            fix="Put the file there, or ask without examples: --fewshot 0.",
        )
    return _questions(read_rows(path)), _questions(read_rows(beside)) if with_examples else [], path.name


def _through_datasets(name: str, *, with_examples: bool) -> tuple[list[ChoiceQuestion], list[ChoiceQuestion]]:
    """From the Hub, its cache, or a folder that is laid out as a data set of the Hub."""
    splits = ("test", "dev") if with_examples else ("test",)
    loaded = [
        _questions(
            (f"{name}, {split} row {number}", row)
            for number, row in enumerate(load_from_hub(Source(name, "all", split, "question")), 1)
        )
        for split in splits
    ]
    return loaded[0], loaded[1] if with_examples else []


def _questions(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[ChoiceQuestion]:
    return [_question(place, row) for place, row in rows]


def _question(place: str, row: Mapping[str, Any]) -> ChoiceQuestion:
    missing = [name for name in ("subject", "question", "choices", "answer") if row.get(name) is None]
    if missing:
        raise PromptError(
            f"{place} lacks {', '.join(missing)}; it has {', '.join(row) or 'nothing'}.",
            wanted="the columns subject, question, choices and answer",
        )
    subject, question, choices = row["subject"], row["question"], row["choices"]
    is_text = isinstance(subject, str) and isinstance(question, str) and bool(subject.strip() and question.strip())
    if not is_text:
        raise PromptError(f"{place}: the subject or the question is no text: {str(dict(row))[:120]}")
    is_list = isinstance(choices, Sequence) and not isinstance(choices, str)
    if not is_list or not 2 <= len(choices) <= len(LETTERS) or not all(isinstance(c, str) for c in choices):
        raise PromptError(f"{place}: the choices are {str(choices)[:80]!r}.", wanted="a list of 2 to 26 texts")
    return ChoiceQuestion(subject, question, tuple(choices), _answer(place, row["answer"], len(choices)))


def _answer(place: str, answer: object, count: int) -> int:
    letters = LETTERS[:count]
    number = -1
    if isinstance(answer, str) and len(answer) == 1:
        number = letters.find(answer)
    elif isinstance(answer, int) and not isinstance(answer, bool):
        number = answer
    if not 0 <= number < count:
        raise PromptError(
            f"{place}: the answer is {answer!r}.",
            wanted=f"one of the letters {letters}, or a place from 0 to {count - 1}",
        )
    return number


def _examples(subject: str, dev: Sequence[ChoiceQuestion], shots: int, source: str) -> tuple[ChoiceQuestion, ...]:
    own = [question for question in dev if question.subject == subject]
    if len(own) < shots:
        raise PromptError(
            f"{source} has {len(own)} development questions of {subject!r}.",
            wanted=f"{shots}, to stand before its questions",
            fix=f"Add them to the development questions, or ask with fewer: --fewshot {len(own)}.",
        )
    return tuple(own[:shots])
