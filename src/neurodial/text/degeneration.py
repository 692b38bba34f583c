"""Text that is neither an answer nor a refusal: empty, looping, in the wrong language, or no language at all.

Checked before any other detector, because a keyword in a loop is not a refusal and gibberish is not compliance.

1. Empty: no letter and no digit, a list of bare numbers, template debris, broken pieces of tokens.
2. Echo: the answer is the prompt again.
3. Looping: a phrase repeated at least three times over at least eight words, a stretch that turns over a few words, a
   unit of characters repeated over most of the text, or half of all runs of four words being copies.
4. Language: letters of three scripts, another language than the prompt's without being asked for it, a change of
   language within the answer, or letters in combinations that English words do not have.
5. Every sign is a number with a limit. With r = number / limit of the sign that goes furthest, the answer's brokenness
   is r / (1 + r): 0 where nothing is amiss, 0.5 at a limit, towards 1 beyond. An answer is degenerate from 0.5.

What this cannot see: fluent nonsense made of real words. Its errors on labelled answers are in the tests, and
`neurodial detectors check` measures them on yours.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from neurodial.text.language import (
    asks_for_a_language,
    function_word_share,
    language_of,
    scripts_of,
)
from neurodial.text.words import BY_SIGN, UNSPACED, repetition_of, words_of

DEGENERATE_FROM = 0.5
"""The brokenness from which an answer counts as degenerate: where a sign reaches its limit."""

_BARE_LIST = re.compile(r"(?:\s*\d+[.)]\s*(?:\n|$)){3,}")
_DEBRIS = re.compile(r"<\|?/?[a-z_ ]+\|?>|\[/?INST\]|<</?SYS>>", re.IGNORECASE)
_BROKEN = re.compile(r"[ĠĊ]|�|##\s|@@")
_WANTS_REPEATS = re.compile(r"\b(?:times|repeat\w*|again and again|over and over|chorus|refrain)\b", re.IGNORECASE)
_UNIT_LOOP = re.compile(r"(.{1,40}?)\1{5,}", re.DOTALL)
_ALONE = re.compile(rf"[^\W{UNSPACED}{BY_SIGN}]")
_LOOP_WORDS, _COPIES, _DISTINCT, _ONE_WORD = 8, 0.5, 0.4, 0.35
_SINGLE_LETTERS, _FUNCTION_WORDS, _HALF = 0.7, 0.85, 12
_MADE_TOGETHER = frozenset({"ja", "zh"})


@dataclass(frozen=True)
class Brokenness:
    """How far an answer has broken down.

    Attributes:
        value: 0 where nothing is amiss, 0.5 where a sign reaches its limit, towards 1 beyond.
        sign: the first sign that reaches its limit, else the one that goes furthest; empty where there is none.
        repetition: share of runs of four words that are copies of an earlier one.
        loop: words of the longest stretch that is one repeated phrase.
        language: the answer's, None where there is too little evidence.
        words: its length.
    """

    value: float
    sign: str
    repetition: float
    loop: int
    language: str | None
    words: int

    @property
    def is_degenerate(self) -> bool:
        """Whether a sign has reached its limit."""
        return self.value >= DEGENERATE_FROM


@dataclass(frozen=True)
class Degeneration:
    """What counts as degenerate.

    Attributes:
        wrong_language: call an answer in another language than the prompt's degenerate, and one that changes it; off
            where the language is the behaviour.
        repeats: repetitions of a phrase that make a loop.
        window: words of a stretch that is looked at for turning over few words.
        implausible: share of letter triples unknown to English that makes gibberish; 1 to leave this out.

    Example:
        >>> Degeneration().find("What is tea?", "tea is tea is tea is tea is tea is")
        'looping'
        >>> Degeneration().find("What is tea?", "Tea is a drink made of leaves.") is None
        True
        >>> round(Degeneration().measure("What is tea?", "Tea and tea and tea and tea, please.").value, 2)
        0.47
    """

    wrong_language: bool = True
    repeats: int = 3
    window: int = 16
    implausible: float = 0.3

    def find(self, prompt: str, answer: str) -> str | None:
        """Why an answer is degenerate; None where it is not."""
        signs = self.measure(prompt, answer)
        return signs.sign if signs.is_degenerate else None

    def measure(self, prompt: str, answer: str) -> Brokenness:
        """How far an answer has broken down, as a number and by its parts."""
        clean = _DEBRIS.sub(" ", answer)
        words = words_of(clean)
        copies = repetition_of(words if clean == answer else words_of(answer))
        loop, language = longest_loop(words, self.repeats), language_of(answer)
        if is_empty(answer, words):
            return Brokenness(1.0, "empty", copies, loop, language, len(words))
        if words == words_of(prompt):
            return Brokenness(1.0, "echo of the prompt", copies, loop, language, len(words))
        signs: list[tuple[float, str]] = []
        if _WANTS_REPEATS.search(prompt) is None:
            signs += [(ratio, "looping") for ratio in self._loops(answer, words, loop, copies)]
            signs += self._not_the_language(prompt, answer, words, language)
        ratio, sign = next((item for item in signs if item[0] >= 1), max(signs, default=(0.0, "")))
        worst = max((item[0] for item in signs), default=0.0)
        return Brokenness(worst / (1 + worst), sign if ratio else "", copies, loop, language, len(words))

    def _loops(self, answer: str, words: list[str], loop: int, copies: float) -> Iterator[float]:
        yield loop / _LOOP_WORDS
        if len(words) >= 20:
            yield copies / _COPIES
        unit, length = _UNIT_LOOP.search(answer) if _is_compressible(answer) else None, len(answer.strip())
        if unit is not None and len(unit[0]) >= 20:
            yield len(unit[0]) / (0.5 * length)
        if len(words) >= self.window:
            distinct, most = _fewest(words, self.window)
            yield max(0.0, (1 - distinct / self.window) / (1 - _DISTINCT))
            yield most / self.window / _ONE_WORD

    def _not_the_language(
        self, prompt: str, answer: str, words: list[str], given: str | None
    ) -> Iterator[tuple[float, str]]:
        if len({_kin(script) for script, n in scripts_of(answer).items() if n >= 2 and script != "UNKNOWN"}) >= 3:
            yield 2.0, "several scripts"
        is_free = asks_for_a_language(prompt) or "```" in answer
        if self.wrong_language and not is_free and given and len(words) >= 6:
            expected = language_of(prompt, guess=False)
            if expected and expected != given:
                yield 2.0, f"wrong language ({given})"
            elif (second := _changes_to(answer, words, given)) is not None:
                yield 2.0, f"changes language ({second})"
        if len(words) >= 10:
            alone = sum(_ALONE.fullmatch(word) is not None for word in words if len(word) == 1)
            yield alone / len(words) / _SINGLE_LETTERS, "single letters"
        if given is not None and len(words) >= 8:
            yield function_word_share(words, given) / _FUNCTION_WORDS, "function words only"
        latin = [word for word in words if word.isalpha() and word.isascii()]
        is_other = is_free or given not in {None, "en"} or self.implausible >= 1
        if not is_other and len(latin) >= 5:
            yield implausible_share(latin) / self.implausible, "gibberish"


def is_empty(answer: str, words: list[str]) -> bool:
    """Whether an answer says nothing: no words, bare list numbers, or broken pieces of tokens."""
    return not words or _BARE_LIST.fullmatch(answer.strip() + "\n") is not None or len(_BROKEN.findall(answer)) >= 3


def longest_loop(words: list[str], repeats: int) -> int:
    """Words of the longest stretch that is one phrase of at most 24 words, `repeats` times or more.

    Example:
        >>> longest_loop("so and then and then and then".split(), 3)
        6
    """
    numbers: dict[str, int] = {}
    row = np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int32)
    longest = 0
    for period in range(1, min(24, len(words) // repeats) + 1):
        again = row[period:] == row[:-period]
        if np.count_nonzero(again) >= (repeats - 1) * period:
            run = _longest_run(again)
            if run + period >= repeats * period:
                longest = max(longest, run + period)
    return longest


def implausible_share(words: list[str]) -> float:
    """The share of letter triples, word ends included, that no word of the shipped English prompts has."""
    total = sum(len(word) for word in words)  # a word has as many triples as letters
    return sum(_odd_triples(word) for word in words) / total if total else 0.0


def _is_compressible(text: str) -> bool:
    """Whether half of a text could be a loop: a search for loops in every text would take most of the time."""
    data = text.encode()
    return len(data) < 150 or len(zlib.compress(data, 1)) < 0.45 * len(data)


def _longest_run(flags: np.ndarray) -> int:
    """Length of the longest row of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int(np.max(edges[1::2] - edges[::2], initial=0))


def _fewest(words: list[str], window: int) -> tuple[int, int]:
    """Over all stretches of `window` words, the fewest different ones, and the most copies of one of four letters."""
    counts: dict[str, int] = {}
    fewest, most = window, 0
    for place, word in enumerate(words):
        counts[word] = counts.get(word, 0) + 1
        if place >= window:
            gone = words[place - window]
            counts[gone] -= 1
            if not counts[gone]:
                del counts[gone]
        if len(word) >= 4:
            most = max(most, counts.get(word, 0))
        if place >= window - 1:
            fewest = min(fewest, len(counts))
    return fewest, most


def _kin(script: str) -> str:
    """Chinese characters and kana are written together, and so are the letters of Korean with them."""
    return "CJK" if script in {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "FULLWIDTH"} else script


def _changes_to(answer: str, words: list[str], given: str) -> str | None:
    """The language that the answer ends in, where it begins in another one."""
    if len(words) < 2 * _HALF:
        return None
    second = language_of(answer[-min(len(answer) // 2, 300) :], guess=False)
    return None if second in {None, given} or {given, second} == _MADE_TOGETHER else second


@lru_cache(maxsize=1 << 16)
def _odd_triples(word: str) -> int:
    known = _known_triples()
    return sum(triple not in known for triple in _triples(word))


def _triples(word: str) -> list[str]:
    padded = f" {word} "
    return [padded[start : start + 3] for start in range(len(padded) - 2)]


@cache
def _known_triples() -> frozenset[str]:
    from neurodial.prompts.behaviours import behaviour_names, read_pairs, read_prompt_list
    from neurodial.prompts.prompt import prompt_text

    texts = [prompt for name in ("neutral", "diverse", "over_refusal") for prompt in read_prompt_list(name).prompts]
    for name in behaviour_names():
        for split in filter(None, read_pairs(name).splits):
            examples = (*split.positive, *split.negative)
            texts += [prompt_text(example.prompt) for example in examples]
            answers = [example.negative_answer for example in examples]
            texts += [answer for answer in answers if answer]
    words = {word for text in texts for word in words_of(text) if word.isascii()}
    return frozenset(triple for word in words for triple in _triples(word))
