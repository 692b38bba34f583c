"""Neurons in words, by a model behind an OpenAI-compatible endpoint, and how good the words are.

1. The model sees places where the neuron is strongest, and some from the middle, with the activation of each token as
   a whole number from 0 to 10, and says in a sentence what the neuron answers to.
2. Detection: a judge that sees only the sentence sorts held-out places, half of them strong and half of them not, told
   apart by the neuron itself. Chance is one half.
3. Simulation: the judge foretells a number from 0 to 10 for each token of held-out places; the score is the
   correlation with the true activations. Chance is what the same guesses score in random order.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from neurodial.evaluation.intervals import wilson
from neurodial.explain.corpus import Corpus
from neurodial.explain.explainer import Explainer, ExplainerQuestion
from neurodial.explain.judged_words import JudgedWords
from neurodial.explain.places import KeptPlaces, TextPlace, middle, window_tokens
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent

LEVELS = 10
_LEVELS = tuple(map(str, range(LEVELS + 1)))
_TRUTH = ("true", "false")
_SHUFFLES = 1000
_LOW = 0.25
"""A place of the sample up to this quantile counts as one where the neuron does not fire."""

_EXPLAIN = (
    "You see pieces of text that a language model read, one to a line. After each token stands how strongly one neuron "
    f"of the model answered to it, from 0 to {LEVELS}, where it answered at all. First come its strongest places, then "
    "ordinary ones. Say in one short sentence what the neuron answers to. Answer with the sentence alone.\n\n{places}"
)
_DETECT = (
    "A neuron of a language model is said to answer to this: {words}\n\nBelow are numbered pieces of text. For each, "
    "does the neuron answer strongly at the token between >> and <<? Answer with a JSON list of true and false, one "
    "for each piece, in their order, and nothing else.\n\n{places}"
)
_SIMULATE = (
    "A neuron of a language model is said to answer to this: {words}\n\nHere are the tokens of a piece of text as a "
    f"JSON list. How strongly does the neuron answer to each, from 0 to {LEVELS}? Answer with a JSON list of as many "
    "whole numbers, and nothing else.\n\n{tokens}"
)


@dataclass(frozen=True)
class Wording:
    """Who puts neurons into words.

    Attributes:
        explainer: who explains, and who judges with the words alone.
        places: strong and ordinary places that are shown.
        held_out: places of either kind that are judged.
        seed: of the order of the places.
    """

    explainer: Explainer
    places: int = 4
    held_out: int = 4
    seed: int = 0


@dataclass(frozen=True)
class _Task:
    """One channel's places: shown, and held out."""

    shown: tuple[TextPlace, ...]
    judged: tuple[tuple[TextPlace, bool], ...]
    largest: float


def put_into_words(
    subject: Subject,
    corpus: Corpus,
    kept: KeptPlaces,
    channels: Sequence[int],
    wording: Wording,
    *,
    progress: Progress = silent,
) -> list[JudgedWords]:
    """Words for some channels, with their scores. The texts go to the explainer as they are.

    Args:
        subject: whose tokenizer shows tokens.
        corpus: the texts.
        kept: places kept while they were read.
        channels: which channels.
        wording: who explains and judges.
        progress: shown while it runs.
    """
    window = _Windows(subject, corpus)
    tasks = [_task(kept, channel, wording) for channel in channels]
    ask = partial(wording.explainer.answers, progress=progress)
    with progress("putting into words", 3) as step:
        said = ask([ExplainerQuestion(_filled(_EXPLAIN, places=window.with_levels(task))) for task in tasks], _sentence)
        step(1)
        words = {number: text.text for number, text in enumerate(said) if isinstance(text, _Said)}
        sorting = [
            ExplainerQuestion(
                _filled(_DETECT, words=text, places=window.marked(tasks[n])), _TRUTH, len(tasks[n].judged)
            )
            for n, text in words.items()
        ]
        detected = dict(zip(words, ask(sorting, _booleans), strict=True))
        step(1)
        asked = [(number, place) for number in words for place, _ in tasks[number].judged]
        foretelling = [
            ExplainerQuestion(
                _filled(_SIMULATE, words=words[n], tokens=window.as_json(place)), _LEVELS, len(place.values)
            )
            for n, place in asked
        ]
        foretold = ask(foretelling, _numbers)
        step(1)
    judged = []
    for number, (task, text) in enumerate(zip(tasks, said, strict=True)):
        guesses = [(place, foretold[k]) for k, (owner, place) in enumerate(asked) if owner == number]
        judged.append(_judged(task, text, detected.get(number, "not asked"), guesses, wording))
    return judged


@dataclass(frozen=True)
class _Windows:
    """Places as a model reads them."""

    subject: Subject
    corpus: Corpus

    def tokens(self, place: TextPlace) -> list[str]:
        ids = window_tokens(place, self.corpus.texts[place.text])
        return [self.subject.tokenizer.decode([token]) for token in ids]

    def as_json(self, place: TextPlace) -> str:
        return json.dumps(self.tokens(place), ensure_ascii=False)

    def with_levels(self, task: _Task) -> str:
        return "\n".join(self._leveled(place, task.largest) for place in task.shown)

    def _leveled(self, place: TextPlace, largest: float) -> str:
        pairs = zip(self.tokens(place), place.values, strict=True)
        return "".join(f"{text}[{level}]" if (level := level_of(v, largest)) else text for text, v in pairs)

    def marked(self, task: _Task) -> str:
        lines = []
        for number, (place, _) in enumerate(task.judged, start=1):
            words = self.tokens(place)
            at = place.position - place.start
            words[at] = f">>{words[at]}<<"
            lines.append(f"{number}. {''.join(words)!r}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Said:
    """A sentence that a model said."""

    text: str


def level_of(value: float, largest: float) -> int:
    """An activation as a whole number from 0 to 10.

    Example:
        >>> level_of(0.5, 1.0), level_of(-1.0, 1.0), level_of(2.0, 1.0)
        (5, 0, 10)
    """
    return 0 if largest <= 0 else min(LEVELS, max(0, round(LEVELS * value / largest)))


def _task(kept: KeptPlaces, channel: int, wording: Wording) -> _Task:
    strong, sample = kept.strongest(channel), kept.sampled(channel)
    seen, held = strong[::2][: wording.places], strong[1::2][: wording.held_out]
    used = {(place.text, place.position) for place in (*seen, *held)}
    quiet = [place for place in sample if (place.text, place.position) not in used]
    ordinary = middle(quiet, wording.places)
    used |= {(place.text, place.position) for place in ordinary}
    low = [place for place in quiet[: max(1, int(_LOW * len(quiet)))] if (place.text, place.position) not in used]
    generator = random.Random(wording.seed)  # the order of examples
    calm = generator.sample(low, min(len(low), len(held)))
    judged = [*((place, True) for place in held[: len(calm)]), *((place, False) for place in calm)]
    generator.shuffle(judged)
    largest = max((place.value for place in strong), default=0.0)
    return _Task((*seen, *ordinary), tuple(judged), largest)


def _judged(
    task: _Task,
    said: _Said | str,
    detected: list[bool] | str,
    guesses: Sequence[tuple[TextPlace, list[float] | str]],
    wording: Wording,
) -> JudgedWords:
    problems = [] if isinstance(said, _Said) else [said]
    truth = [fires for _, fires in task.judged]
    rate = None
    if not problems and not isinstance(detected, str) and truth and len(detected) == len(truth):
        rate = wilson(sum(answer == fires for answer, fires in zip(detected, truth, strict=True)), len(truth))
    elif not problems:
        problems.append(detected if isinstance(detected, str) else f"{len(detected)} verdicts on {len(truth)} places")
    true: list[float] = []
    told: list[float] = []
    for place, levels in guesses if isinstance(said, _Said) else ():
        if isinstance(levels, str) or len(levels) != len(place.values):
            problems.append(levels if isinstance(levels, str) else "as many numbers as tokens were wanted")
            continue
        true += place.values
        told += levels
    score, chance = _correlated(true, told, wording.seed)
    return JudgedWords(
        text=said.text if isinstance(said, _Said) else "",
        model=wording.explainer.name,
        shown=len(task.shown),
        detection=None if rate is None else rate.value,
        detection_low=None if rate is None else rate.low,
        detection_high=None if rate is None else rate.high,
        detection_n=0 if rate is None else rate.n,
        simulation=score,
        simulation_chance=chance,
        simulation_n=len(true) if score is not None else 0,
        problems=tuple(dict.fromkeys(problems)),
    )


def _correlated(true: Sequence[float], told: Sequence[float], seed: int) -> tuple[float | None, float | None]:
    """The correlation, and what 95 % of the same numbers in random order stay below; None for constant ones."""
    first, second = np.asarray(true, np.float64), np.asarray(told, np.float64)
    if len(first) < 3 or first.std() == 0 or second.std() == 0:
        return None, None
    first, second = (first - first.mean()) / first.std(), (second - second.mean()) / second.std()
    generator = np.random.default_rng(seed)
    shuffled = [float(first @ generator.permutation(second)) / len(first) for _ in range(_SHUFFLES)]
    return float(first @ second) / len(first), float(np.quantile(shuffled, 0.95))


def _filled(text: str, **parts: str) -> str:
    for name, value in parts.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _sentence(text: str) -> _Said | None:
    said = " ".join(text.split()).strip().strip('"')
    return _Said(said[:400]) if said else None


def _booleans(text: str) -> list[bool] | None:
    values = _list(text)
    if values is None or not all(isinstance(value, bool) for value in values):
        return None
    return [value is True for value in values]


def _numbers(text: str) -> list[float] | None:
    values = _list(text)
    if values is None or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    return [float(value) for value in values]


def _list(text: str) -> list[bool | int | float] | None:
    match = re.search(r"\[[^\[\]]*\]", text)
    try:
        value = json.loads(match[0]) if match else None
    except ValueError:
        return None
    return value if isinstance(value, list) else None
