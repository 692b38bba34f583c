"""Measures that generate nothing: divergence, margin, perplexity, surprise, questions, speed; one row a condition.

Each row holds the values behind the number, so that intervals and paired differences are made later and nothing is
measured twice. A system prompt changes the tokens, so divergence, and speed, are not defined for it and are left out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from neurodial.evaluation.conditions import Condition
from neurodial.evaluation.likelihood import continuation, log_likelihoods
from neurodial.evaluation.options import Evaluation
from neurodial.evaluation.questions import mark, positive_control, read_questions
from neurodial.evaluation.run_rows import (
    ControlRow,
    GenerationRow,
    MarginRow,
    MeasureRow,
    PerTextRow,
    QuestionsRow,
    SpeedRow,
)
from neurodial.evaluation.store import Store
from neurodial.evaluation.task import Task
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.generation.running_engine import engine_of
from neurodial.intervention.base import Intervention
from neurodial.intervention.steer import steer
from neurodial.margins.margin import Margin, Openers
from neurodial.margins.measure import measure_margins
from neurodial.model.head import hidden_states
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.behaviours import read_pairs, read_prompt_list
from neurodial.prompts.passage import Passage

_REPEATS = 5


@dataclass(frozen=True)
class MeasurementPlan:
    """What is to be measured.

    Attributes:
        subject: the model.
        task: the prompts.
        conditions: every condition, the unsteered one first.
        options: how much.
        margin: the behaviour's margin, where it has one.
    """

    subject: Subject
    task: Task
    conditions: tuple[Condition, ...]
    options: Evaluation
    margin: Margin | None = None


def measure(plan: MeasurementPlan, store: Store, progress: Progress = silent) -> None:
    """Make the measures that the store lacks."""
    finished = {(row.condition, row.measure) for row in store.rows(MeasureRow)}

    def lacking(name: str, *, steered_only: bool = False) -> list[Condition]:
        """Conditions without this measure."""
        conditions = [condition for condition in plan.conditions if (condition.key, name) not in finished]
        return [steered for steered in conditions if steered.intervention is not None] if steered_only else conditions

    if plan.options.neutral:
        _divergences(plan, lacking("kl", steered_only=True), store, progress)
    steps: list[tuple[str, bool, bool, Callable[[Condition], MeasureRow]]] = [
        ("margin", plan.margin is not None, False, lambda condition: _margins(plan, condition)),
        ("perplexity", plan.options.perplexity > 0, True, lambda condition: _likelihoods(plan, condition)),
        ("surprise", plan.options.answers and plan.options.neutral > 0, False, lambda c: _surprise(plan, c, store)),
        ("questions", plan.options.questions > 0, True, lambda condition: _questions(plan, condition)),
        ("speed", plan.options.speed, True, lambda condition: _speed(plan, condition)),
    ]
    for name, is_wanted, needs_intervention, make in steps:
        conditions = [a for a in lacking(name) if a.system is None or not needs_intervention] if is_wanted else []
        with progress(f"measuring: {name}", len(conditions)) as advance:
            for condition in conditions:
                store.append([make(condition)])
                advance(1)
    if plan.options.questions and ("unsteered", "control") not in finished and engine_of(plan.subject) is None:
        store.append([_control(plan)])


def neutral_prompts(split: str, count: int) -> tuple[str, ...]:
    """The first neutral prompts of a split."""
    return read_prompt_list("neutral").split(split)[:count]  # type: ignore[arg-type]


def written_texts(behaviour: str, count: int) -> list[tuple[str, str]]:
    """Questions with long answers written by people, of a shipped set that is not the behaviour under test.

    Example:
        >>> len(written_texts("refusal", 3))
        3
    """
    source = "terse" if behaviour != "terse" else "french"
    examples = read_pairs(source).test.negative
    pairs = [(str(example.prompt), example.negative_answer) for example in examples]
    return [(prompt, answer) for prompt, answer in pairs if answer][:count]


def _divergences(plan: MeasurementPlan, conditions: Sequence[Condition], store: Store, progress: Progress) -> None:
    """All conditions at once: the unsteered pass is shared."""
    if not conditions:
        return
    options = plan.options
    decoding = Decoding(max_new_tokens=options.divergence_tokens, batch_size=options.decoding.batch_size)
    passages = own_answers(
        plan.subject, neutral_prompts(options.measured, options.neutral), decoding=decoding, progress=progress
    )
    for start in range(0, len(conditions), 8):
        part = conditions[start : start + 8]
        interventions = [condition.intervention for condition in part if condition.intervention is not None]
        divergences = measure_divergence(plan.subject, passages, interventions, progress=progress)
        store.append(
            [
                PerTextRow(condition.key, "kl", tuple(divergence.by_passage), tuple(divergence.scored))
                for condition, divergence in zip(part, divergences, strict=True)
            ]
        )


def _margins(plan: MeasurementPlan, condition: Condition) -> MarginRow:
    assert plan.margin is not None  # noqa: S101  # asked for only where there is one
    assert plan.task.pairs is not None  # noqa: S101  # as for the margin
    chosen = plan.task.pairs.measured(plan.options.measured)[: plan.options.prompts]
    system = condition.system or plan.options.decoding.system
    values = measure_margins(plan.subject, plan.margin, chosen, under=condition.intervention, system=system)
    return MarginRow(condition.key, "margin", tuple(values), isinstance(plan.margin, Openers))


def _likelihoods(plan: MeasurementPlan, condition: Condition) -> PerTextRow:
    texts = written_texts(plan.task.behaviour.name, plan.options.perplexity)
    passages = [continuation(plan.subject, f"Question: {q}\nAnswer:", f" {a}") for q, a in texts]
    likelihoods = log_likelihoods(plan.subject, passages, under=condition.intervention)
    totals = tuple(likelihood.total for likelihood in likelihoods)
    tokens = tuple(likelihood.tokens for likelihood in likelihoods)
    return PerTextRow(condition.key, "perplexity", totals, tokens)


def _surprise(plan: MeasurementPlan, condition: Condition, store: Store) -> PerTextRow:
    """The condition's answers to neutral prompts, read by the unsteered model; empty ones have no token to score."""
    rows = [row for row in store.rows(GenerationRow) if row.condition == condition.key and row.set == "neutral"]
    asked = dict(enumerate(neutral_prompts(plan.options.measured, plan.options.neutral)))
    answers = [(asked[row.index], row.answer) for row in sorted(rows, key=lambda row: row.index) if row.answer]
    rendered = plan.subject.render([prompt for prompt, _ in answers], system=plan.options.decoding.system)
    passages = []
    for tokens, (_, answer) in zip(rendered, answers, strict=True):
        said = plan.subject.encode(answer, special=False)
        passages.append(Passage((*tokens, *said), len(tokens), len(said)))
    found = log_likelihoods(plan.subject, passages)
    return PerTextRow(condition.key, "surprise", tuple(a.total for a in found), tuple(a.tokens for a in found))


def _questions(plan: MeasurementPlan, condition: Condition) -> QuestionsRow:
    marked = mark(plan.subject, read_questions()[: plan.options.questions], under=condition.intervention)
    right = tuple(question.is_right for question in marked)
    values = tuple(question.log_likelihood for question in marked)
    return QuestionsRow(condition.key, "questions", right, values)


def _control(plan: MeasurementPlan) -> ControlRow:
    questions = read_questions()[: plan.options.questions]
    control = positive_control(plan.subject, questions, mark(plan.subject, questions))
    return ControlRow(
        "unsteered",
        "control",
        accuracy_drop=control.accuracy.estimate.value,
        accuracy_p=control.accuracy.p_value,
        likelihood_drop=control.log_likelihood.estimate.value,
        likelihood_high=control.log_likelihood.estimate.high,
        chance=control.chance,
        above_chance=control.is_above_chance,
        shows_damage=control.shows_damage,
    )


def _speed(plan: MeasurementPlan, condition: Condition) -> SpeedRow:
    """Ratios of a steered forward pass to a plain one, taken in turns so that a busy machine slows both."""
    tokens = torch.arange(8 * 32).reshape(8, 32) % plan.subject.model.config.get_text_config().vocab_size
    _forward_time(plan.subject, tokens, None)
    ratios = []
    for _ in range(_REPEATS):
        plain = _forward_time(plan.subject, tokens, None)
        ratios.append(_forward_time(plan.subject, tokens, condition.intervention) / plain)
    return SpeedRow(condition.key, "speed", tuple(ratios), statistics.median(ratios))


@torch.no_grad()
def _forward_time(subject: Subject, tokens: torch.Tensor, intervention: Intervention | None) -> float:
    with steer(subject, *([] if intervention is None else [intervention])):
        start = time.perf_counter()
        hidden_states(subject, tokens)
        if subject.device.type == "cuda":
            torch.cuda.synchronize(subject.device)
        return time.perf_counter() - start


def rows_by_condition(store: Store) -> dict[tuple[str, str], MeasureRow]:
    """Measures by condition and name."""
    return {(row.condition, row.measure): row for row in store.rows(MeasureRow)}
