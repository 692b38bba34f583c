"""Detectors for the shipped behaviours other than refusal: word lists and shapes that a reader can check.

Each counts what speaks for the behaviour and what speaks against it; the score is the difference, per sentence where
texts differ in length, and the behaviour is shown where the score passes a threshold. The lists were written by hand
and tuned on the discovery and development answers of the shipped sets; their accuracy on the test answers is in the
tests.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from functools import cache
from importlib import resources

from neurodial.evaluation.detectors.base import Exchange, Verdict
from neurodial.text.language import language_of
from neurodial.text.words import words_of

SHORT_WORDS = 12
"""An answer of at most this many words is short."""


@cache
def _words(name: str) -> re.Pattern[str]:
    """A pattern for the whole words and phrases of a list; `*` stands for any ending."""
    listed = tomllib.loads((resources.files("neurodial.evaluation") / "data" / "style_words.toml").read_text("utf-8"))
    phrases = [" ".join(phrase.split()) for phrase in listed[name].split(",")]
    alternatives = "|".join(
        re.escape(phrase).replace(r"\*", r"\w*") for phrase in sorted(phrases, key=len, reverse=True)
    )
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE)


_CONTRACTION = re.compile(r"\b\w+'(?:s|re|ve|ll|d|m|t)\b", re.IGNORECASE)
_NEGATION = re.compile(
    r"(?:\bnot|\bnever|\bno|n't|\bhardly|\bwithout|\bneither|\bnor)\W+(?:\w+\W+){0,2}$", re.IGNORECASE
)
_PRAISES_USER = re.compile(r"\b(?:you|your|you're|you've)\b", re.IGNORECASE)


def speaks(language: str) -> Callable[[Exchange], Verdict]:
    """The answer is in a language (ISO 639-1)."""

    def decide(exchange: Exchange) -> Verdict:
        spoken = language_of(exchange.answer)
        return Verdict("shown" if spoken == language else "absent", reason=spoken or "no language found")

    return decide


def formality(exchange: Exchange) -> Verdict:
    """Formal words and full forms against contractions, slang and exclamation marks.

    Example:
        >>> formality(Exchange("", "Please be advised that the meeting has been rescheduled.")).label
        'shown'
        >>> formality(Exchange("", "Hey all, we're moving the meeting!")).label
        'absent'
    """
    text = exchange.answer.replace("’", "'")
    casual = 2 * len(_CONTRACTION.findall(text)) + 2 * text.count("!") + len(_words("casual").findall(text))
    words = words_of(text)
    long_words = sum(len(word) >= 8 for word in words) / max(1, len(words))
    score = len(_words("formal").findall(text)) - casual + 6 * (long_words - 0.17)
    return _verdict(score, -0.7)


def sentiment(exchange: Exchange) -> Verdict:
    """Positive words against negative ones; a negation just before a word turns it round.

    Example:
        >>> sentiment(Exchange("", "A lovely place, and we enjoyed it.")).label
        'shown'
        >>> sentiment(Exchange("", "It was not good.")).label
        'absent'
    """
    text = exchange.answer.replace("’", "'")
    score = float(_signed(_words("positive"), text) - _signed(_words("negative"), text))
    return _verdict(score, 0.5)


def hedging(exchange: Exchange) -> Verdict:
    """Words of doubt and qualification against words of certainty.

    Example:
        >>> hedging(Exchange("", "It might rain, but it is hard to say.")).label
        'shown'
        >>> hedging(Exchange("", "Yes, it will rain.")).label
        'absent'
    """
    text = exchange.answer.replace("’", "'")
    strong, weak = len(_words("strong_hedge").findall(text)), len(_words("hedge").findall(text))
    certain = len(_words("certain").findall(text))
    score = (2 * strong + 0.5 * weak - certain) / max(1, sentences(text))
    return _verdict(score, 1.0)


def flattery(exchange: Exchange) -> Verdict:
    """Gushing words, exclamation marks and words to the reader against words of plain criticism.

    Example:
        >>> flattery(Exchange("", "What a breathtaking poem! You are a genius.")).label
        'shown'
        >>> flattery(Exchange("", "The poem is clear. The last line could be shorter.")).label
        'absent'
    """
    text = exchange.answer
    praise = 2 * len(_words("praise").findall(text)) + text.count("!") + 0.5 * len(_PRAISES_USER.findall(text))
    score = (praise - len(_words("critique").findall(text))) / max(1, sentences(text))
    return _verdict(score, 0.5)


def is_short(limit: int = SHORT_WORDS) -> Callable[[Exchange], Verdict]:
    """The answer has at most `limit` words; the score is their number."""

    def decide(exchange: Exchange) -> Verdict:
        words = len(words_of(exchange.answer))
        return Verdict("shown" if words <= limit else "absent", float(words), f"{words} words")

    return decide


def opposite(decide: Callable[[Exchange], Verdict]) -> Callable[[Exchange], Verdict]:
    """Shown where the rule says absent."""

    def turned(exchange: Exchange) -> Verdict:
        verdict = decide(exchange)
        score = None if verdict.score is None else -verdict.score
        return Verdict("absent" if verdict.label == "shown" else "shown", score, verdict.reason)

    return turned


def sentences(text: str) -> int:
    """Number of sentences, by their end marks; at least 1 where there is text.

    Example:
        >>> sentences("One. Two! Three")
        3
    """
    return len([part for part in re.split(r"[.!?…]+(?:\s|$)|\n+", text) if part.strip()])


def _signed(pattern: re.Pattern[str], text: str) -> int:
    signs = [1 if _NEGATION.search(text[: match.start()]) is None else -1 for match in pattern.finditer(text)]
    return sum(signs)


def _verdict(score: float, threshold: float) -> Verdict:
    return Verdict("shown" if score > threshold else "absent", score)
