"""A small multiple-choice set of our own: does the model still know what it knew?

1. Each choice is scored as the continuation of `Question: … Answer:`, by its mean log-likelihood per token.
2. The answer given is the choice of highest score. Accuracy, and beside it the mean log-likelihood of the right
   choice, which moves before accuracy does.
3. Positive control: switching off a random tenth of all neurons must show a drop, or the set measures nothing here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from neurodial.circuit.circuit import Circuit, Row
from neurodial.errors import OptionError
from neurodial.evaluation.intervals import Difference, Estimate, paired_means, paired_rates, rate
from neurodial.evaluation.likelihood import continuation, log_likelihoods
from neurodial.generation.per_row import Under
from neurodial.intervention.scale import Scale
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent

CONTROL_SHARE = 0.1
"""Share of all neurons that the positive control switches off."""


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question with choices; `answer` is the place of the right one."""

    subject: str
    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Marked:
    """How one question was answered.

    Attributes:
        is_right: whether the right choice scored highest.
        log_likelihood: of the right choice, in nats per token.
    """

    is_right: bool
    log_likelihood: float


@dataclass(frozen=True)
class Control:
    """The positive control.

    Attributes:
        accuracy: change of accuracy with a random tenth of the neurons off.
        log_likelihood: change of the right choice's mean log-likelihood.
        chance: the accuracy of guessing.
        unsteered: the accuracy without steering.
    """

    accuracy: Difference
    log_likelihood: Difference
    chance: float
    unsteered: Estimate

    @property
    def is_above_chance(self) -> bool:
        """Whether the unsteered model is clearly better than guessing."""
        return self.unsteered.low > self.chance

    @property
    def shows_damage(self) -> bool:
        """Whether the set sees the damage: the likelihood of right answers clearly drops."""
        return self.log_likelihood.estimate.high < 0


@cache
def read_questions() -> tuple[ChoiceQuestion, ...]:
    """All questions, subjects mixed, in a fixed order.

    Example:
        >>> len(read_questions()) >= 200
        True
    """
    text = (resources.files("neurodial.evaluation") / "data" / "questions.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    questions = [ChoiceQuestion(r["subject"], r["question"], tuple(r["choices"]), r["answer"]) for r in rows]
    random.Random(0).shuffle(questions)
    return tuple(questions)


def mark(
    subject: Subject, questions: Sequence[ChoiceQuestion], *, under: Under = None, progress: Progress = silent
) -> list[Marked]:
    """How the model answers each question.

    Raises:
        OptionError: there are no questions.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> [marked] = mark(tiny_subject(), read_questions()[:1])
        >>> marked.log_likelihood < 0
        True
    """
    if not questions:
        raise OptionError("There are no questions.", wanted="at least one")
    pairs = [(number, choice) for number, question in enumerate(questions) for choice in question.choices]
    passages = [continuation(subject, f"Question: {questions[n].question}\nAnswer:", f" {c}") for n, c in pairs]
    scores: list[list[float]] = [[] for _ in questions]
    for (number, _), likelihood in zip(
        pairs, log_likelihoods(subject, passages, under=under, progress=progress), strict=True
    ):
        scores[number].append(likelihood.mean)
    return [
        Marked(max(range(len(own)), key=own.__getitem__) == question.answer, own[question.answer])
        for question, own in zip(questions, scores, strict=True)
    ]


def positive_control(
    subject: Subject, questions: Sequence[ChoiceQuestion], plain: Sequence[Marked], *, seed: int = 0
) -> Control:
    """Switch off a random tenth of the neurons and mark again."""
    broken = mark(subject, questions, under=Scale(random_tenth(subject, seed=seed)))
    right = [m.is_right for m in plain], [m.is_right for m in broken]
    likely = [m.log_likelihood for m in plain], [m.log_likelihood for m in broken]
    chance = sum(1 / len(question.choices) for question in questions) / len(questions)
    return Control(paired_rates(*right), paired_means(*likely), chance, rate(right[0]))


def random_tenth(subject: Subject, *, seed: int, share: float = CONTROL_SHARE) -> Circuit:
    """A random share of all neurons, each with dose 1.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> len(random_tenth(tiny_subject(), seed=0))
        5
    """
    everything = subject.everything
    chosen = random.Random(seed).sample(range(everything.count), max(1, round(share * everything.count)))
    return Circuit.of((Row(neuron, 0.0, 1.0) for neuron in everything.at(chosen)), name="random tenth")
