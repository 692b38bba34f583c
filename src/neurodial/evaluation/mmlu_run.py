"""MMLU in an evaluation: every condition that changes the model itself, kept row by row, and what to know of it.

A run that goes on in a folder goes on only with the very questions that it began with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from neurodial.errors import FileError
from neurodial.evaluation.conditions import Condition
from neurodial.evaluation.harness import check_tasks
from neurodial.evaluation.intervals import Estimate, paired_means, paired_rates, rate
from neurodial.evaluation.mmlu import Answered, Paper, answer_paper, paper_of
from neurodial.evaluation.mmlu_data import QuestionSet, is_mmlu, mmlu_set
from neurodial.evaluation.options import HarnessOptions
from neurodial.evaluation.questions import CONTROL_SHARE, random_tenth
from neurodial.evaluation.run_rows import MeasureRow, MmluRow, MmluSetRow
from neurodial.evaluation.store import Store
from neurodial.generation.running_engine import engine_of
from neurodial.intervention.scale import Scale
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent

SHARES = {"mmlu": "letters", "mmlu_texts": "texts", "mmlu_texts_per_character": "texts_per_character"}
"""Accuracies: the metric's name, and what of a row it is made of."""
MEANS = {"mmlu_right_letter": "letter", "mmlu_right_text": "text"}
"""Log-probabilities of the right answer."""
_CONTROL = "control"
_TOGETHER = 4
"""Interventions that share batches: their shared beginnings run as one. More would keep less of a run cut short."""


def check_benchmarks(options: HarnessOptions) -> None:
    """Refuse, before any work, questions that can't be read, and tasks that there are not.

    Raises:
        FileError, PromptError, OptionError, MissingPackageError: what `read_mmlu` says.
        UnknownNameError: no such task of the harness.
    """
    mmlu_set(options)
    check_tasks(harness_tasks(options))


def harness_tasks(options: HarnessOptions) -> tuple[str, ...]:
    """The tasks that lm-evaluation-harness runs.

    Example:
        >>> harness_tasks(HarnessOptions(("mmlu", "arc_easy")))
        ('arc_easy',)
    """
    return tuple(task for task in options.tasks if not is_mmlu(task))


def run_mmlu(
    subject: Subject,
    conditions: Sequence[Condition],
    options: HarnessOptions,
    store: Store,
    progress: Progress = silent,
) -> None:
    """Answer the questions under every condition that the store lacks; in transformers the positive control too.

    Raises:
        FileError: the folder holds answers to other questions.
        ContextLengthError: a question alone is longer than the context.
    """
    questions = mmlu_set(options)
    if questions is None:
        return
    finished = _rows(store)
    steerings = [(condition.key, condition.intervention) for condition in conditions if condition.system is None]
    if engine_of(subject) is None:
        steerings.append((_CONTROL, Scale(random_tenth(subject, seed=options.seed))))
    pending = [(key, intervention) for key, intervention in steerings if key not in finished]
    _check_same(questions, store)
    if not pending:
        return
    paper = paper_of(subject, questions)
    if not _set_rows(store):
        store.append([_describe(questions, paper)])
    for start in range(0, len(pending), _TOGETHER):
        part = pending[start : start + _TOGETHER]
        papers = answer_paper(subject, paper, [intervention for _, intervention in part], progress=progress)
        store.append([_row(key, paper, answered) for (key, _), answered in zip(part, papers, strict=True)])


def _row(condition: str, paper: Paper, answered: Answered) -> MmluRow:
    answers = [question.answer for question in paper.questions]

    def right(picked: Sequence[int]) -> tuple[bool, ...]:
        return tuple(a == b for a, b in zip(picked, answers, strict=True))

    return MmluRow(
        condition,
        "mmlu",
        letters=right(answered.letters),
        texts=right(answered.texts),
        texts_per_character=right(answered.texts_per_character),
        given=tuple(answered.letters),
        ties=answered.ties,
        log_probs={name: tuple(getattr(answered, name)) for name in MEANS.values()},
    )


def _describe(questions: QuestionSet, paper: Paper) -> MmluSetRow:
    return MmluSetRow(
        "",
        "mmlu:set",
        source=questions.source,
        digest=questions.digest,
        n=len(questions.questions),
        available=questions.available,
        subjects=len(questions.subjects),
        shots=questions.shots,
        fewer=dict(paper.fewer),
        seed=questions.seed,
        chance=sum(1 / len(question.choices) for question in questions.questions) / len(questions.questions),
    )


def _set_rows(store: Store) -> list[MmluSetRow]:
    return [row for row in store.rows(MeasureRow) if isinstance(row, MmluSetRow)]


def _rows(store: Store) -> dict[str, MmluRow]:
    """The answers that there are, by condition."""
    return {row.condition: row for row in store.rows(MeasureRow) if isinstance(row, MmluRow)}


def _check_same(questions: QuestionSet, store: Store) -> None:
    for row in _set_rows(store):
        if row.digest != questions.digest:
            raise FileError(
                f"The folder holds answers to other questions than those that {questions.source} gives now.",
                wanted="the same file as when the run began",
                fix="Put the file back, or choose another folder.",
            )


def mmlu_values(row: MmluRow) -> tuple[dict[str, tuple[bool, ...]], dict[str, tuple[float, ...]]]:
    """Of a condition's row: for each question, whether it was answered rightly, and how likely the right answer was."""
    shares: dict[str, tuple[bool, ...]] = {name: getattr(row, key) for name, key in SHARES.items()}
    return shares, {name: row.log_probs[key] for name, key in MEANS.items()}


def mmlu_notes(store: Store) -> list[str]:
    """What was asked, whether the unsteered model is above chance, and what the positive control showed."""
    asked = _set_rows(store)
    rows = _rows(store)
    if not asked or "unsteered" not in rows:
        return []
    plain = rows["unsteered"]
    damage = [_damage(plain, rows[_CONTROL])] if _CONTROL in rows else []
    return [_asked(asked[0]), *_levels(asked[0], plain), *_ties(asked[0], plain), *damage]


def _asked(row: MmluSetRow) -> str:
    drawn = "" if row.n == row.available else f" drawn from {row.available} with seed {row.seed},"
    fewer = "".join(f" {name} with {count}, as more did not fit;" for name, count in row.fewer.items())
    return (
        f"MMLU: {row.n} questions of {row.subjects} subjects from {row.source},{drawn} after {row.shots} "
        f"development questions of the subject;{fewer} whole answers without. Questions' hash {row.digest[:12]}."
    )


def _levels(asked: MmluSetRow, unsteered: MmluRow) -> Iterator[str]:
    shares, _ = mmlu_values(unsteered)
    names = {"mmlu": "by letters", "mmlu_texts": "by whole answers"}
    for name, words in names.items():
        accuracy = rate(shares[name])
        if accuracy.low > asked.chance:
            yield f"MMLU {words}: the unsteered model is above chance, {_percent(accuracy)} against {asked.chance:.0%}."
        else:
            yield (
                f"MMLU {words}: the unsteered model is at chance, {_percent(accuracy)} against {asked.chance:.0%}. "
                "This accuracy can't show damage here: read the log-probability of the right answer."
            )


def _ties(asked: MmluSetRow, unsteered: MmluRow) -> Iterator[str]:
    if unsteered.ties:
        yield (
            f"MMLU by letters: on {unsteered.ties} of {asked.n} questions the likeliest letters are equally "
            "likely in the model's precision, and the first of them counts."
        )


def _damage(unsteered: MmluRow, control: MmluRow) -> str:
    (before, likely), (after, unlikely) = mmlu_values(unsteered), mmlu_values(control)
    parts = []
    for name, words in (("mmlu", "accuracy by letters"), ("mmlu_texts", "by whole answers")):
        change: Any = paired_rates(before[name], after[name])
        parts.append(f"{words} by {100 * change.estimate.value:+.1f} points (McNemar p = {change.p_value:.2g})")
    sees = []
    for name, words in (("mmlu_right_letter", "right letter"), ("mmlu_right_text", "right answer's text")):
        fall = paired_means(likely[name], unlikely[name]).estimate
        sees.append(fall.high < 0)
        ends = f"[{fall.low:+.2f}, {fall.high:+.2f}]"
        parts.append(f"the {words}'s log-probability by {fall.value:+.2f} {ends} nats")
    verdict = "." if all(sees) else ". What does not clearly fall there is blind here."
    return (
        f"MMLU's positive control: a random {CONTROL_SHARE:.0%} of the neurons off changes {'; '.join(parts)}{verdict}"
    )


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
