"""Text that is neither an answer nor a refusal: empty, looping, in the wrong language, or no language at all.

Checked before any other detector, because a keyword in a loop is not a refusal and gibberish is not compliance.

1. Empty: no letter and no digit, a list of bare numbers, template debris, broken pieces of tokens.
2. Echo: the answer is the prompt again.
3. Looping: a phrase repeated at least three times over at least eight words, or a stretch that repeats a few
   words, or a unit of characters repeated over most of the text.
4. Language: letters of three scripts, another language than the prompt's without being asked for it, or letters in
   combinations that English words do not have.

What this cannot see: fluent nonsense made of real words. Its errors on labelled answers are in the tests, and
`neurodial detectors check` measures them on yours.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

from neurodial.text.language import (
    asks_for_a_language,
    function_word_share,
    language_of,
    scripts_of,
)
from neurodial.text.words import repetition, words_of

_BARE_LIST = re.compile(r"(?:\s*\d+[.)]\s*(?:\n|$)){3,}")
_DEBRIS = re.compile(r"<\|?/?[a-z_ ]+\|?>|\[/?INST\]|<</?SYS>>", re.IGNORECASE)
_BROKEN = re.compile(r"[ĠĊ]|�|##\s|@@")
_WANTS_REPEATS = re.compile(r"\b(?:times|repeat\w*|again and again|over and over|chorus|refrain)\b", re.IGNORECASE)
_UNIT_LOOP = re.compile(r"(.{1,40}?)\1{5,}", re.DOTALL)


@dataclass(frozen=True)
class Degeneration:
    """What counts as degenerate.

    Attributes:
        wrong_language: call an answer in another language than the prompt's degenerate; off where the language is
            the behaviour.
        repeats: repetitions of a phrase that make a loop.
        window: number of words in a stretch that is checked for repeating few words.
        implausible: share of letter triples unknown to English that makes gibberish.

    Example:
        >>> Degeneration().find("What is tea?", "tea is tea is tea is tea is tea is")
        'looping'
        >>> Degeneration().find("What is tea?", "Tea is a drink made of leaves.") is None
        True
    """

    wrong_language: bool = True
    repeats: int = 3
    window: int = 16
    implausible: float = 0.3

    def find(self, prompt: str, answer: str) -> str | None:
        """Why an answer is degenerate; None where it is not."""
        words = words_of(_DEBRIS.sub(" ", answer))
        if is_empty(answer, words):
            return "empty"
        if words == words_of(prompt):
            return "echo of the prompt"
        if _WANTS_REPEATS.search(prompt):
            return None
        if self._loops(answer, words):
            return "looping"
        return self._not_the_language(prompt, answer, words)

    def _loops(self, answer: str, words: list[str]) -> bool:
        if longest_loop(words, self.repeats) >= 8 or (len(words) >= 20 and repetition(answer) > 0.5):
            return True
        loop = _UNIT_LOOP.search(answer)
        if loop is not None and len(loop[0]) >= 20 and len(loop[0]) > 0.5 * len(answer.strip()):
            return True
        starts = range(max(0, len(words) - self.window + 1))
        return any(_turns_over_few(words[start : start + self.window]) for start in starts)

    def _not_the_language(self, prompt: str, answer: str, words: list[str]) -> str | None:
        if len([script for script, count in scripts_of(answer).items() if count >= 2 and script != "UNKNOWN"]) >= 3:
            return "several scripts"
        expected, given = language_of(prompt), language_of(answer)
        is_free = asks_for_a_language(prompt) or "```" in answer
        if self.wrong_language and not is_free and expected and given and expected != given and len(words) >= 6:
            return f"wrong language ({given})"
        if len(words) >= 10 and sum(len(word) == 1 for word in words) > 0.7 * len(words):
            return "single letters"
        if given is not None and len(words) >= 8 and function_word_share(words, given) > 0.85:
            return "function words only"
        latin = [word for word in words if word.isalpha() and word.isascii()]
        is_other = is_free or (given not in {None, "en"})
        if not is_other and len(latin) >= 5 and implausible_share(latin) > self.implausible:
            return "gibberish"
        return None


def is_empty(answer: str, words: list[str]) -> bool:
    """Whether an answer says nothing: no words, bare list numbers, or broken pieces of tokens."""
    return not words or _BARE_LIST.fullmatch(answer.strip() + "\n") is not None or len(_BROKEN.findall(answer)) >= 3


def longest_loop(words: list[str], repeats: int) -> int:
    """Words of the longest stretch that is one phrase of at most 24 words, `repeats` times or more.

    Example:
        >>> longest_loop("so and then and then and then".split(), 3)
        6
    """
    longest = 0
    for period in range(1, min(24, len(words) // repeats) + 1):
        run = 0
        for place in range(period, len(words)):
            run = run + 1 if words[place] == words[place - period] else 0
            if run + period >= repeats * period:
                longest = max(longest, run + period)
    return longest


def implausible_share(words: list[str]) -> float:
    """The share of letter triples, word ends included, that no word of the shipped English prompts contains."""
    known = _known_triples()
    triples = [triple for word in words for triple in _triples(word)]
    return sum(triple not in known for triple in triples) / len(triples) if triples else 0.0


def _turns_over_few(stretch: list[str]) -> bool:
    counts = Counter(stretch)
    content = [count for word, count in counts.items() if len(word) >= 4]
    return len(counts) <= len(stretch) * 0.4 or max(content, default=0) >= len(stretch) * 0.35


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
