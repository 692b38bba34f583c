"""What can be counted in a text without a model: repetition, variety, length.

1. Repetition = 1 - unique / all word n-grams, n = 4 (0: none repeats; towards 1: a loop).
2. distinct-n = unique / all word n-grams over all answers together (Li et al. 2016, arXiv 1510.03055).
3. Words: runs of letters, digits and apostrophes, with the signs that a script writes onto its letters. Chinese,
   Japanese, Thai, Lao, Khmer and Burmese put no spaces between words: there each character counts as one, with its
   signs. Korean has spaces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

UNSPACED = "\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
"""Characters of Chinese and Japanese, as a range for a regular expression."""
BY_SIGN = (
    r"\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf"
    r"\u1000-\u102a\u103f\u1050-\u1055\u1780-\u17b3"
)
"""Letters of Thai, Lao, Burmese and Khmer, likewise."""
_ON_LETTERS = (  # the signs that these write onto them
    r"\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd\u102b-\u103e\u1056-\u1059\u17b4-\u17d3"
)
_INDIC = r"\u0900-\u0963\u0966-\u0dff"  # letters and signs alike, without the full stops of Hindi
_SIGNS = (  # accents and vowel signs of Latin, Hebrew and Arabic; joiners
    r"\u0300-\u036f\u0591-\u05bd\u05bf\u05c1-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06ed\u200c\u200d"
)
_LETTERS = "ัิ-ฺ็-๎ັິ-ຼ່-ໍါ-ှၖ-ၙ឴-៓"  # the signs that these scripts write onto them
_INDIC = "ऀ-ॣ०-෿"  # letters and signs alike, without the full stops of Hindi
_SIGNS = "̀-֑ͯ-ׇؐ-ًؚ-ٰٟۖ-ۭ‌‍"  # accents and vowel signs of Latin, Hebrew, Arabic; joiners
_LETTERS = rf"(?:[^\W_{UNSPACED}{BY_SIGN}{_ON_LETTERS}]|[{_INDIC}{_SIGNS}])"
_WORD = re.compile(rf"[{UNSPACED}]|[{BY_SIGN}][{_ON_LETTERS}]*|{_LETTERS}+(?:['’]{_LETTERS}+)*")
_ASCII_WORD = re.compile("[a-z0-9]+(?:'[a-z0-9]+)*")  # the same, quicker


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
        >>> words_of("हिन्दी में"), words_of("도와 줘"), words_of("你好")
        (['हिन्दी', 'में'], ['도와', '줘'], ['你', '好'])
    """
    plain = text.lower().replace("’", "'")
    return (_ASCII_WORD if plain.isascii() else _WORD).findall(plain)


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
    return repetition_of(words_of(text), n)


def repetition_of(words: Sequence[str], n: int = 4) -> float:
    """As `repetition`, of words that are there already.

    Example:
        >>> round(repetition_of("a b c d a b c d".split()), 4)
        0.2
    """
    count = len(words) - n + 1
    return 1 - len(set(zip(*(words[start:] for start in range(n)), strict=False))) / count if count > 0 else 0.0


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
