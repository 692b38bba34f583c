"""The model's own answers on either side, and what says of them whether they show the behaviour.

1. A few answers to positive prompts come first: where the behaviour's detector sees it in none, there is nothing to
   find, and that is said in the first seconds.
2. Then all answers to development prompts, and the beginnings of those to discovery prompts, which is what openings are
   found in. The rest of the latter is made where a margin reads it, or where there is no detector.
3. Labels of the development answers: the behaviour's detector's; else those of a classifier of the discovery answers;
   else, where that can't tell the sides apart, the side that the prompt is on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from neurodial.errors import MarginError
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import Answer, generate
from neurodial.margins.beginnings import first_words
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast, PairSet
from neurodial.prompts.prompt import Example, prompt_key, prompt_text
from neurodial.text.answer_classifier import AnswerClassifier

Shows = Callable[[Sequence[tuple[str, str]]], Sequence[bool | None]]
"""Says of each prompt and answer whether the answer shows the behaviour; None where it can't tell."""

BEGINNING = 8
"""Tokens of a discovery answer that are made first: openings are no longer."""

_FIRST = 12  # positive prompts that are answered before all others


class BothSides(NamedTuple):
    """Answers to the positive and to the negative prompts of a split."""

    positive: list[Answer]
    negative: list[Answer]

    def first(self, count: int) -> BothSides:
        """Those to at most `count` prompts of each side."""
        return BothSides(self.positive[:count], self.negative[:count])


@dataclass(frozen=True)
class JudgedAnswers:
    """The model's own answers to discovery and development prompts.

    Attributes:
        beginnings: of the discovery answers, on either side: their first tokens at least.
        development: on either side.
        shown: of the development answers, the positive side's first, whether they show the behaviour; None where that
            can't be told.
        judged_by: what says so, in words.
        answer_tokens: longest answer that was asked for.
        make_whole: makes the whole discovery answers, or those to the first prompts of each side; None where the
            beginnings are these.
        most: prompts of each side, where these are the answers to the first of them alone.
    """

    beginnings: BothSides
    development: BothSides
    shown: tuple[bool | None, ...]
    judged_by: str
    answer_tokens: int = 48
    make_whole: Callable[[int | None], BothSides] | None = None
    most: int | None = None

    @cached_property
    def discovery(self) -> BothSides:
        """Whole answers to the discovery prompts, made when they are first read."""
        return self.beginnings if self.make_whole is None else self.make_whole(self.most)

    def first(self, count: int) -> JudgedAnswers:
        """Those to at most `count` prompts of each side; `PairSet.first` gives the prompts."""
        middle = len(self.development.positive)
        shown = (*self.shown[:middle][:count], *self.shown[middle:][:count])
        beginnings, development = self.beginnings.first(count), self.development.first(count)
        return replace(self, beginnings=beginnings, development=development, shown=shown, most=count)

    @property
    def all(self) -> list[Answer]:
        """All answers."""
        return [answer for split in (self.discovery, self.development) for side in split for answer in side]


@dataclass(frozen=True)
class Evidence:
    """What a margin is chosen by, beside the prompts.

    Attributes:
        judged: the model's own answers to them.
        neutral: its own answers to neutral prompts.
    """

    judged: JudgedAnswers
    neutral: Sequence[Answer] = ()


def judge_answers(
    subject: Subject,
    pairs: PairSet,
    shows: Shows | None,
    *,
    answer_tokens: int = 48,
    system: str | None = None,
    progress: Progress = silent,
) -> JudgedAnswers:
    """Answer the discovery and development prompts, and judge the latter.

    Args:
        subject: the model, unsteered.
        pairs: the prompts.
        shows: the behaviour's own detector, where it names one.
        answer_tokens: longest answer.
        system: a system message before every prompt.
        progress: shown while it runs.

    Raises:
        MarginError: the behaviour's detector sees it in no answer to a positive prompt.
    """
    contrast = pairs.discovery

    def answered(examples: Sequence[Example], longest: int = answer_tokens) -> list[Answer]:
        decoding = Decoding(max_new_tokens=longest, system=system)
        return generate(subject, [e.prompt for e in examples], decoding=decoding, progress=progress)

    count = min(_FIRST, len(contrast.positive)) if shows is not None else 0
    first = answered(contrast.positive[:count])
    if shows is not None and not any(judge(shows, first)):
        raise _no_behaviour(pairs, first)
    development = _sides(answered([*pairs.development.positive, *pairs.development.negative]), pairs.development)
    others = [*contrast.positive[count:], *contrast.negative]
    known = {prompt_key(answer.prompt): answer for answer in first}

    def whole(most: int | None = None) -> BothSides:
        part = contrast if most is None else contrast.first(most)
        keys = {prompt_key(example.prompt): example for example in (*part.positive, *part.negative)}
        missing = [key for key in keys if key not in known]
        known.update(zip(missing, answered([keys[key] for key in missing]), strict=True))
        return _sides([known[key] for key in keys], part)

    if shows is None:
        discovery = whole()
        labels, judged_by = _labels_by_classifier(discovery, development)
        return JudgedAnswers(discovery, development, labels, judged_by, answer_tokens)
    beginnings = _sides([*first, *answered(others, min(BEGINNING, answer_tokens))], contrast)
    labels, judged_by = _labels_by_detector(shows, development)
    return JudgedAnswers(beginnings, development, labels, judged_by, answer_tokens, whole)


_Labels = tuple[tuple[bool | None, ...], str]


def _labels_by_detector(shows: Shows, development: BothSides) -> _Labels:
    labels = tuple(judge(shows, [*development.positive, *development.negative]))
    if True in labels and False in labels:
        return labels, "the behaviour's detector"
    return _by_side(development), "the side of the prompt, as the detector says the same of all answers"


def _labels_by_classifier(discovery: BothSides, development: BothSides) -> _Labels:
    classifier = AnswerClassifier.fit(*([answer.text for answer in side] for side in discovery))
    told = tuple(classifier.probability(a.text) > 0.5 for a in (*development.positive, *development.negative))
    sides = _by_side(development)
    right = sum(label == side for label, side in zip(told, sides, strict=True))
    if True in told and False in told and right > len(sides) / 2:
        return told, "a classifier of the model's own answers"
    return sides, "the side of the prompt, as no classifier of the answers tells the sides apart"


def _by_side(development: BothSides) -> tuple[bool, ...]:
    return (True,) * len(development.positive) + (False,) * len(development.negative)


def judge(shows: Shows, answers: Sequence[Answer]) -> list[bool | None]:
    """Whether each answer shows the behaviour; None where that can't be told."""
    return list(shows([(prompt_text(answer.prompt), answer.text) for answer in answers]))


def _sides(answers: Sequence[Answer], contrast: Contrast) -> BothSides:
    middle = len(contrast.positive)
    return BothSides(list(answers[:middle]), list(answers[middle : len(contrast)]))


def _no_behaviour(pairs: PairSet, answers: Sequence[Answer]) -> MarginError:
    return MarginError(
        f"There is no behaviour to find: of {len(answers)} answers to positive prompts of {pairs.behaviour.name!r}, "
        f"the behaviour's detector ({pairs.behaviour.detector or 'as given'}) sees it in none. They begin "
        f"{first_words(answers)}.",
        wanted="positive prompts whose answers show the behaviour",
        fix="Read some answers (neurodial steer MODEL PROMPT), make prompts that bring the behaviour out, or name "
        "another detector in the behaviour's file.",
    )
