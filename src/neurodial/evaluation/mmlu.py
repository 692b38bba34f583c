"""MMLU (arXiv 2009.03300) under steering: every condition on the same questions, in the paper's letters and in words.

1. Letters, as the benchmark is known: `The following are multiple choice questions (with answers) about SUBJECT.`, the
   subject's development questions with their letters, then the question with its choices and `Answer:`. The answer
   given is the likeliest of ` A`, ` B` …
2. Whole answers, which a model too small for letters knows better: each choice's text after `Question: … Answer:`, no
   examples before it. The answer given is the choice of highest log-likelihood; again with each divided by its number
   of characters.
3. Beside each, the log-probability of the right answer, which moves before accuracy does.
4. Positive control: with a random tenth of all neurons off, the right answers must become less likely.

The prompts and the choice by letters and by whole answers are those of lm-evaluation-harness's `mmlu` and
`mmlu_continuation` (`acc`, and `acc_norm`). A subject whose examples do not fit the model's context gets fewer.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neurodial.evaluation.choices import AskedChoices, choice_log_probs, encode
from neurodial.evaluation.mmlu_data import LETTERS, QuestionSet
from neurodial.evaluation.questions import ChoiceQuestion
from neurodial.intervention.base import Intervention
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent


@dataclass(frozen=True)
class Answered:
    """How each question was answered under one intervention.

    Attributes:
        letters: the place of the letter given; of equally likely ones the first.
        letter: log-probability of the right letter in nats, over the whole vocabulary.
        texts: the place of the choice whose text is likeliest.
        texts_per_character: the same with log-likelihoods divided by the text's characters.
        text: log-likelihood of the right choice's text, in nats per token.
        ties: questions whose likeliest letters are equally likely, as low precision makes them.
    """

    letters: tuple[int, ...]
    letter: tuple[float, ...]
    texts: tuple[int, ...]
    texts_per_character: tuple[int, ...]
    text: tuple[float, ...]
    ties: int


@dataclass(frozen=True)
class Paper:
    """The questions as tokens of one model.

    Attributes:
        questions: in their order.
        letters: each question with its letters.
        texts: each question with its choices' texts.
        fewer: how many examples stand before the questions of a subject whose examples did not all fit.
    """

    questions: tuple[ChoiceQuestion, ...]
    letters: tuple[AskedChoices, ...]
    texts: tuple[AskedChoices, ...]
    fewer: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.questions)


def letter_prompt(question: ChoiceQuestion, examples: Sequence[ChoiceQuestion]) -> str:
    """A question with lettered choices, after examples.

    Example:
        >>> print(letter_prompt(ChoiceQuestion("high_school_physics", "Up?", ("yes", "no"), 1), ()))
        The following are multiple choice questions (with answers) about high school physics.
        <BLANKLINE>
        Up?
        A. yes
        B. no
        Answer:
    """
    head = f"The following are multiple choice questions (with answers) about {question.subject.replace('_', ' ')}.\n\n"
    shown = "".join(f"{_lettered(example)} {LETTERS[example.answer]}\n\n" for example in examples)
    return f"{head}{shown}{_lettered(question)}"


def text_prompt(question: ChoiceQuestion) -> str:
    """A question that its answer's text follows.

    Example:
        >>> print(text_prompt(ChoiceQuestion("physics", " Up? ", ("yes", "no"), 1)))
        Question: Up?
        Answer:
    """
    return f"Question: {question.question.strip()}\nAnswer:"


def paper_of(subject: Subject, questions: QuestionSet) -> Paper:
    """The questions as tokens; made once, whatever is steered.

    Raises:
        ContextLengthError: a question alone is longer than the context (when it is asked).
    """
    asked = questions.questions
    shots = dict.fromkeys(questions.subjects, questions.shots)
    letters = _letters(subject, asked, questions, shots)
    limit = subject.context_length or sys.maxsize
    while too_long := {
        question.subject
        for question, letter_tokens in zip(asked, letters, strict=True)
        if shots[question.subject] and max(map(len, letter_tokens.rows)) > limit
    }:
        shots |= {name: shots[name] - 1 for name in too_long}
        letters = _letters(subject, asked, questions, shots)
    texts = encode(
        subject,
        [text_prompt(question) for question in asked],
        [[f" {c}" for c in question.choices] for question in asked],
    )
    fewer = {name: count for name, count in shots.items() if count < questions.shots}
    return Paper(asked, tuple(letters), tuple(texts), fewer)


def answer_paper(
    subject: Subject,
    paper: Paper,
    interventions: Sequence[Intervention | None],
    *,
    progress: Progress = silent,
    **batching: Any,
) -> list[Answered]:
    """Every question under every intervention; different ones share batches, and None is the unsteered model.

    Args:
        subject: the model.
        paper: the questions, of `paper_of`.
        interventions: what to answer under, each by itself.
        progress: shown while it runs.
        batching: `budget`, the tokens of one batch.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> question = ChoiceQuestion("physics", "Up?", ("yes", "no"), 1)
        >>> paper = paper_of(tiny_subject(), QuestionSet((question,), {"physics": ()}, 0, "mine", 1, 0))
        >>> [answered] = answer_paper(tiny_subject(), paper, [None])
        >>> answered.letter[0] < 0
        True
    """
    under = [intervention for intervention in interventions for _ in range(len(paper))]

    def scores(asked: Sequence[AskedChoices]) -> list[tuple[float, ...]]:
        return choice_log_probs(subject, [*asked] * len(interventions), under=under, progress=progress, **batching)

    letters, texts = scores(paper.letters), scores(paper.texts)
    starts = range(0, len(under), max(1, len(paper)))
    return [_answered(paper, letters[at : at + len(paper)], texts[at : at + len(paper)]) for at in starts]


def _answered(paper: Paper, letters: Sequence[tuple[float, ...]], texts: Sequence[tuple[float, ...]]) -> Answered:
    per_character = [
        [score / max(1, len(choice)) for score, choice in zip(own, question.choices, strict=True)]
        for own, question in zip(texts, paper.questions, strict=True)
    ]
    right = [question.answer for question in paper.questions]
    return Answered(
        tuple(_highest(own) for own in letters),
        tuple(own[answer] for own, answer in zip(letters, right, strict=True)),
        tuple(_highest(own) for own in texts),
        tuple(_highest(own) for own in per_character),
        tuple(
            own[answer] / len(encoded.choices[answer])
            for own, answer, encoded in zip(texts, right, paper.texts, strict=True)
        ),
        sum(own.count(max(own)) > 1 for own in letters),
    )


def _highest(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def _lettered(question: ChoiceQuestion) -> str:
    choices = "".join(f"{letter}. {choice}\n" for letter, choice in zip(LETTERS, question.choices, strict=False))
    return f"{question.question.strip()}\n{choices}Answer:"


def _letters(
    subject: Subject, asked: Sequence[ChoiceQuestion], questions: QuestionSet, shots: Mapping[str, int]
) -> list[AskedChoices]:
    """Questions of one subject are one family: they begin with the same examples."""
    families = {name: number for number, name in enumerate(questions.subjects)}
    encoded = encode(
        subject,
        [
            letter_prompt(question, questions.examples[question.subject][: shots[question.subject]])
            for question in asked
        ],
        [[f" {letter}" for letter in LETTERS[: len(question.choices)]] for question in asked],
    )
    return [replace(tokens, family=families[question.subject]) for tokens, question in zip(encoded, asked, strict=True)]
