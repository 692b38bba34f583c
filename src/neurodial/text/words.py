"""What can be counted in a text without a model: repetition, variety, length.

1. Repetition = 1 - unique / all word n-grams, n = 4 (0: none repeats; towards 1: a loop).
2. distinct-n = unique / all word n-grams over all answers together (Li et al. 2016, arXiv 1510.03055).
3. Words: runs of letters, digits and apostrophes; scripts without spaces count each character as a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WIDE = "぀-ヿ㐀-鿿가-힯"
_WORD = re.compile(rf"[{_WIDE}]|[^\W_{_WIDE}]+(?:['’][^\W_{_WIDE}]+)*")


@dataclass(frozen=True)
class TextMeasures:
    """Counts of one answer.

    Attributes:
        words: number of words.
        characters: number of characters.
        repetition: share of word 4-grams that are copies of an earlier one.
    """

    words: int
    characters: int
    repetition: float


def words_of(text: str) -> list[str]:
    """The words of a text, lower case.

    Example:
        >>> words_of("Don't stop – 3 times!")
        ["don't", 'stop', '3', 'times']
    """
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of `n` words.

    Example:
        >>> ngrams(["a", "b", "c"], 2)
        [('a', 'b'), ('b', 'c')]
    """
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def repetition(text: str, *, n: int = 4) -> float:
    """1 - unique / all word n-grams; 0 where the text is shorter than n words.

    Example:
        >>> round(repetition("a b c d a b c d"), 4)
        0.2
        >>> repetition("one two three four five")
        0.0
    """
    grams = ngrams(words_of(text), n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(texts: Sequence[str], *, n: int = 2) -> float:
    """Unique over all word n-grams of several texts together; NaN where there are none.

    Example:
        >>> distinct(["a b", "a b", "a c", "c d"])
        0.75
    """
    grams = [gram for text in texts for gram in ngrams(words_of(text), n)]
    return len(set(grams)) / len(grams) if grams else float("nan")


def measure_text(text: str) -> TextMeasures:
    """Length and repetition of one answer.

    Example:
        >>> measure_text("Hello there.").words
        2
    """
    return TextMeasures(len(words_of(text)), len(text), repetition(text))
