"""Answers of every condition to every prompt, and the detectors' verdicts, row by row and resumable.

1. The rows of all conditions are sorted so that a batch holds one kind of intervention and prompts of similar length;
   rows of different dials share a batch.
2. Batches are cut before finished ones are taken out, so a run that was interrupted makes the same batches again.
3. A think block is split off; verdicts are of the answer alone.
4. A verdict that failed (a judge that is down) is asked for again by the next run, and counts for nothing meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from neurodial.evaluation.conditions import Condition
from neurodial.evaluation.detectors.base import Detector, Exchange, Verdict
from neurodial.evaluation.options import Evaluation
from neurodial.evaluation.run_rows import GenerationRow, VerdictRow
from neurodial.evaluation.store import Store
from neurodial.evaluation.task import Task
from neurodial.generation.generate import generate
from neurodial.generation.running_engine import engine_of
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.prompt import Prompt, prompt_text
from neurodial.prompts.render import with_system

APART = "thinking"
"""Ending of the name of a set whose think blocks are scored apart."""


class _Cell(NamedTuple):
    condition: Condition
    asked: str
    place: int
    prompt: Prompt
    length: int


def answer(
    subject: Subject,
    task: Task,
    conditions: Sequence[Condition],
    options: Evaluation,
    store: Store,
    progress: Progress = silent,
) -> None:
    """Make the answers that the store lacks."""
    finished = {row.place for row in store.rows(GenerationRow)}
    engine = engine_of(subject)
    size = options.decoding.batch_size if engine is None else engine.at_once
    chunks = list(_chunks(_cells(subject, task, conditions, options), size))
    pending = [chunk for chunk in chunks if any((c.condition.key, c.asked, c.place) not in finished for c in chunk)]
    with progress("answering", sum(len(chunk) for chunk in pending)) as advance:
        for chunk in pending:
            prompts = [cell.prompt for cell in chunk]
            answers = generate(
                subject, prompts, under=[cell.condition.intervention for cell in chunk], decoding=options.decoding
            )
            rows = []
            for cell, answer in zip(chunk, answers, strict=True):
                rows.append(
                    GenerationRow(
                        condition=cell.condition.key,
                        set=cell.asked,
                        index=cell.place,
                        prompt=prompt_text(cell.prompt),
                        answer=answer.text,
                        thinking=answer.thinking,
                        endless=answer.is_endless and not answer.is_finished,
                        tokens=len(answer.tokens),
                        finished=answer.is_finished,
                    )
                )
            store.append([row for row in rows if row.place not in finished])
            advance(len(chunk))


def judge(detectors: Sequence[Detector], options: Evaluation, store: Store, progress: Progress = silent) -> None:
    """Make the verdicts that the store lacks or that failed."""
    for detector in detectors:
        known = {row.place: row.label for row in store.rows(VerdictRow) if row.detector == detector.name}
        unjudged = [
            (row, asked, text)
            for row in store.rows(GenerationRow)
            for asked, text in _texts(row, options)
            if known.get((row.condition, asked, row.index), "failed") == "failed"
        ]
        with progress(f"judging: {detector.name}", len(unjudged)) as advance:
            for start in range(0, len(unjudged), 32):
                part = unjudged[start : start + 32]
                verdicts = _verdicts(detector, part)
                store.append([_line(detector, row, asked, v) for (row, asked, _), v in verdicts])
                advance(len(part))


def latest_verdicts(store: Store) -> dict[tuple[str, str, str, int], VerdictRow]:
    """The last verdict on each row, by detector, condition, set and index."""
    return {(row.detector, *row.place): row for row in store.rows(VerdictRow)}


def _verdicts(
    detector: Detector, part: Sequence[tuple[GenerationRow, str, str]]
) -> Iterator[tuple[tuple[GenerationRow, str, str], Verdict]]:
    """An endless think block is degenerate whatever the detector; the rest is the detector's to say."""
    asked = [answer for answer in part if not (answer[0].endless and not answer[1].endswith(APART))]
    verdicts = iter(detector.judge([Exchange(row.prompt, text) for row, _, text in asked]))
    for answer in part:
        is_endless = answer[0].endless and not answer[1].endswith(APART)
        yield answer, Verdict("degenerate", reason="endless thinking") if is_endless else next(verdicts)


def _texts(row: GenerationRow, options: Evaluation) -> Iterator[tuple[str, str]]:
    yield row.set, row.answer
    if options.thinking == "apart" and row.thinking is not None:
        yield f"{row.set}:{APART}", row.thinking


def _line(detector: Detector, row: GenerationRow, asked: str, verdict: Verdict) -> VerdictRow:
    return VerdictRow(
        detector.name, row.condition, asked, row.index, verdict.label, score=verdict.score, reason=verdict.reason
    )


def _cells(subject: Subject, task: Task, conditions: Sequence[Condition], options: Evaluation) -> list[_Cell]:
    cells = []
    for condition in conditions:
        for asked in task.asked:
            prompts = [with_system(prompt, condition.system) for prompt in asked.prompts]
            lengths = [len(tokens) for tokens in subject.render(prompts, system=options.decoding.system)]
            cells += [
                _Cell(condition, asked.name, index, prompt, length)
                for index, (prompt, length) in enumerate(zip(prompts, lengths, strict=True))
            ]
    return sorted(cells, key=lambda cell: (_kind(cell.condition), -cell.length))


def _kind(condition: Condition) -> str:
    """Conditions that edit the model in the same places share batches; the unsteered one goes with scaled circuits."""
    return "Scale" if condition.intervention is None else type(condition.intervention).__name__


def _chunks(cells: Sequence[_Cell], size: int) -> Iterator[list[_Cell]]:
    chunk: list[_Cell] = []
    for cell in cells:
        if chunk and (len(chunk) == size or _kind(chunk[0].condition) != _kind(cell.condition)):
            yield chunk
            chunk = []
        chunk.append(cell)
    if chunk:
        yield chunk
