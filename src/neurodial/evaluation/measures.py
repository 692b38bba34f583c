"""Measures that need no generated answer: divergence, margin, perplexity, multiple choice, speed. One row per arm.

Each row holds the values behind the number, so that intervals and paired differences are made later and nothing is
measured twice. A system prompt changes the tokens, so divergence, and speed, are not defined for it and are left out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neurodial.evaluation.conditions import Arm
from neurodial.evaluation.likelihood import continuation, log_likelihoods
from neurodial.evaluation.options import Evaluation
from neurodial.evaluation.questions import mark, positive_control, read_questions
from neurodial.evaluation.store import Row, Store
from neurodial.evaluation.task import Task, with_answers
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import measure_divergence, own_answers
from neurodial.intervention.base import Intervention
from neurodial.intervention.steer import steer
from neurodial.margins.margin import Margin, Openers
from neurodial.margins.measure import measure_margins
from neurodial.model.head import hidden_states
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.behaviours import read_pairs, read_prompt_list
from neurodial.prompts.prompt import Example

_REPEATS = 5


@dataclass(frozen=True)
class Bill:
    """What is to be measured.

    Attributes:
        subject: the model.
        task: the prompts.
        arms: every arm, the unsteered one first.
        options: how much.
        margin: the behaviour's margin, where it has one.
    """

    subject: Subject
    task: Task
    arms: tuple[Arm, ...]
    options: Evaluation
    margin: Margin | None = None


def measure(bill: Bill, store: Store, progress: Progress = silent) -> None:
    """Make the measures that the store lacks."""
    finished = {(row["arm"], row["measure"]) for row in store.rows("measures")}

    def lacking(name: str, *, steered_only: bool = False) -> list[Arm]:
        """Arms without this measure."""
        arms = [arm for arm in bill.arms if (arm.key, name) not in finished]
        return [arm for arm in arms if arm.intervention is not None] if steered_only else arms

    if bill.options.neutral:
        _divergences(bill, lacking("kl", steered_only=True), store, progress)
    steps: list[tuple[str, bool, bool, Callable[[Arm], dict[str, Any]]]] = [
        ("margin", bill.margin is not None and bill.options.margin, False, lambda arm: _margins(bill, arm)),
        ("perplexity", bill.options.perplexity > 0, True, lambda arm: _likelihoods(bill, arm)),
        ("questions", bill.options.questions > 0, True, lambda arm: _questions(bill, arm)),
        ("speed", bill.options.speed, True, lambda arm: _speed(bill, arm)),
    ]
    for name, is_wanted, needs_intervention, make in steps:
        arms = [a for a in lacking(name) if a.system is None or not needs_intervention] if is_wanted else []
        with progress(f"measuring: {name}", len(arms)) as advance:
            for arm in arms:
                store.append("measures", [{"arm": arm.key, "measure": name, **make(arm)}])
                advance(1)
    if bill.options.questions and ("unsteered", "control") not in finished:
        store.append("measures", [{"arm": "unsteered", "measure": "control", **_control(bill)}])


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


def _divergences(bill: Bill, arms: Sequence[Arm], store: Store, progress: Progress) -> None:
    """All arms at once: the unsteered pass is shared."""
    if not arms:
        return
    options = bill.options
    decoding = Decoding(max_new_tokens=options.divergence_tokens, batch_size=options.decoding.batch_size)
    passages = own_answers(bill.subject, neutral_prompts("test", options.neutral), decoding=decoding, progress=progress)
    for start in range(0, len(arms), 8):
        part = arms[start : start + 8]
        interventions = [arm.intervention for arm in part if arm.intervention is not None]
        found = measure_divergence(bill.subject, passages, interventions, progress=progress)
        store.append(
            "measures",
            [
                {"arm": arm.key, "measure": "kl", "values": list(one.by_passage), "tokens": list(one.scored)}
                for arm, one in zip(part, found, strict=True)
            ],
        )


def _margins(bill: Bill, arm: Arm) -> dict[str, Any]:
    assert bill.margin is not None  # noqa: S101  # asked for only where there is one
    contrast = bill.task.pairs.test if bill.task.pairs is not None else None
    examples: Sequence[Example] = () if contrast is None else contrast.positive
    if bill.task.behaviour.rate_on == "negative" and contrast is not None:
        examples = contrast.negative
    chosen = with_answers(examples[: bill.options.prompts], bill.task.behaviour)
    system = arm.system or bill.options.decoding.system
    values = measure_margins(bill.subject, bill.margin, chosen, under=arm.intervention, system=system)
    return {"values": values, "is_opener": isinstance(bill.margin, Openers)}


def _likelihoods(bill: Bill, arm: Arm) -> dict[str, Any]:
    texts = written_texts(bill.task.behaviour.name, bill.options.perplexity)
    passages = [continuation(bill.subject, f"Question: {q}\nAnswer:", f" {a}") for q, a in texts]
    found = log_likelihoods(bill.subject, passages, under=arm.intervention)
    return {"values": [one.total for one in found], "tokens": [one.tokens for one in found]}


def _questions(bill: Bill, arm: Arm) -> dict[str, Any]:
    found = mark(bill.subject, read_questions()[: bill.options.questions], under=arm.intervention)
    return {"right": [one.is_right for one in found], "values": [one.log_likelihood for one in found]}


def _control(bill: Bill) -> dict[str, Any]:
    questions = read_questions()[: bill.options.questions]
    found = positive_control(bill.subject, questions, mark(bill.subject, questions))
    return {
        "accuracy_drop": found.accuracy.estimate.value,
        "accuracy_p": found.accuracy.p_value,
        "likelihood_drop": found.log_likelihood.estimate.value,
        "likelihood_high": found.log_likelihood.estimate.high,
        "chance": found.chance,
        "above_chance": found.is_above_chance,
        "shows_damage": found.shows_damage,
    }


def _speed(bill: Bill, arm: Arm) -> dict[str, Any]:
    """Ratios of a steered forward pass to a plain one, taken in turns so that the machine's mood hits both."""
    tokens = torch.arange(8 * 32).reshape(8, 32) % bill.subject.model.config.get_text_config().vocab_size
    _forward_time(bill.subject, tokens, None)
    ratios = []
    for _ in range(_REPEATS):
        plain = _forward_time(bill.subject, tokens, None)
        ratios.append(_forward_time(bill.subject, tokens, arm.intervention) / plain)
    return {"values": ratios, "median": statistics.median(ratios)}


@torch.no_grad()
def _forward_time(subject: Subject, tokens: torch.Tensor, intervention: Intervention | None) -> float:
    with steer(subject, *([] if intervention is None else [intervention])):
        start = time.perf_counter()
        hidden_states(subject, tokens)
        if subject.device.type == "cuda":
            torch.cuda.synchronize(subject.device)
        return time.perf_counter() - start


def rows_by_arm(store: Store) -> dict[tuple[str, str], Row]:
    """Measures by arm and name."""
    return {(row["arm"], row["measure"]): row for row in store.rows("measures")}


def development_examples(task: Task, count: int) -> tuple[Example, ...]:
    """Development prompts on which comparators are tuned."""
    assert task.pairs is not None  # noqa: S101  # asked for only where there are comparators
    return with_answers(task.pairs.measured("development")[:count], task.behaviour)
