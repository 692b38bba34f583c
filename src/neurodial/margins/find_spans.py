"""Finds what is said somewhere in the answers of one side and not in those of the other: spans of tokens.

1. Candidates: all runs of 1 to 8 tokens in the answers to P+, each counted once an answer.
2. A span's value is its share of P+ less its share of P-, or of the answers to neutral prompts where that is more. Its
   first token alone must be rare on P- too: it is where the model decides to begin the span.
3. Take the span that tells most of the answers that no span tells so far, until another one would tell too little. Of
   spans that tell nearly as much, the one that begins earliest, then the shortest: a sign-off is decided at its first
   word, whatever mark it ends with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from neurodial.errors import MarginError, OptionError
from neurodial.model.subject import Subject
from neurodial.prompts.render import Tokens

_NEARLY = 0.1  # how much less of the answers than the best a span may tell that begins earlier


@dataclass(frozen=True)
class SpanSearch:
    """What counts as a span of a behaviour.

    Attributes:
        length: the longest span in tokens.
        count: how many spans are kept.
        share: the least share of the answers to P+ that a further span must add.
        rarity: at most this many times as frequent among the other answers as among those to P+.
        coverage: the least share of the answers to P+ that all spans together must reach.

    Example:
        >>> SpanSearch(length=4).length
        4
    """

    length: int = 8
    count: int = 12
    share: float = 0.05
    rarity: float = 0.34
    coverage: float = 0.25

    def __post_init__(self) -> None:
        if self.length < 1 or self.count < 1:
            raise OptionError(f"Spans of length {self.length}, {self.count} of them.", wanted="at least 1 of each")
        if not (0 <= self.share <= 1 and 0 <= self.rarity < 1 and 0 <= self.coverage <= 1):
            raise OptionError(
                f"share {self.share}, rarity {self.rarity}, coverage {self.coverage}.",
                wanted="shares from 0 to 1, rarity below 1",
            )


@dataclass(frozen=True)
class Spans:
    """What answers of one side say somewhere and those of the other rarely do.

    Attributes:
        tokens: the spans.
        texts: the same as text.
        positive: share of the answers to P+ that hold one.
        negative: the same share of the answers to P-.

    Example:
        >>> Spans(((40, 41),), ("()",), 1.0, 0.0).first_in((7, 40, 41, 9))
        (1, (40, 41))
    """

    tokens: tuple[Tokens, ...]
    texts: tuple[str, ...]
    positive: float
    negative: float

    def matches(self, answer: Sequence[int]) -> bool:
        """Whether an answer's tokens hold one of the spans."""
        return self.first_in(answer) is not None

    def first_in(self, answer: Sequence[int], start: int = 0) -> tuple[int, Tokens] | None:
        """Where the first span from `start` on begins, and which (the longest there); None where there is none."""
        answer = tuple(answer)
        longest_first = sorted(self.tokens, key=lambda span: -len(span))
        for place in range(start, len(answer)):
            for span in longest_first:
                if answer[place : place + len(span)] == span:
                    return place, span
        return None


def spans_of(
    subject: Subject,
    positive: Sequence[Tokens],
    negative: Sequence[Tokens],
    neutral: Sequence[Tokens] = (),
    *,
    search: SpanSearch | None = None,
) -> Spans:
    """The spans that tell the answers of one side from those of the other.

    Args:
        subject: whose tokenizer spells them.
        positive: answers to P+.
        negative: answers to P-.
        neutral: answers to neutral prompts.
        search: what counts as a span.

    Raises:
        MarginError: none does.
    """
    search = search or SpanSearch()
    shows = _holders(positive, search.length)
    others = [(_holders(answers, search.length), len(answers)) for answers in (negative, neutral) if answers]

    def lacking(span: Tokens) -> float:
        return max((len(holders.get(span, ())) / size for holders, size in others), default=0.0)

    size = max(1, len(positive))
    quiet = _holders(negative, 1)

    def begun(token: Tokens) -> float:
        return len(quiet.get(token, ())) / max(1, len(negative))

    rare = {
        span: lacking(span)
        for span, holders in shows.items()
        if len(holders) >= min(2, size)
        and lacking(span) <= search.rarity * len(holders) / size
        and begun(span[:1]) <= search.rarity * len(shows[span[:1]]) / size
    }
    chosen = _chosen(rare, shows, positive, search)
    told = {number for span in chosen for number in shows[span]}
    if not chosen or len(told) / size < search.coverage:
        raise MarginError(
            f"Nothing said in an answer tells the two sides apart: the best spans are in {len(told) / size:.0%} of the "
            "answers to positive prompts.",
            wanted=f"spans in at least {search.coverage:.0%} of them, rare in answers to negative and neutral prompts",
            fix="Take another margin, or check that the model shows the behaviour at all.",
        )
    texts = tuple(subject.tokenizer.decode(list(span)) for span in chosen)
    found = Spans(tuple(chosen), texts, 0.0, 0.0)
    shares = [sum(map(found.matches, answers)) / max(1, len(answers)) for answers in (positive, negative)]
    return Spans(found.tokens, texts, shares[0], shares[1])


def _chosen(
    rare: dict[Tokens, float], shows: dict[Tokens, set[int]], positive: Sequence[Tokens], search: SpanSearch
) -> list[Tokens]:
    """The spans of step 3, in the order in which they are taken."""
    told: set[int] = set()
    chosen: list[Tokens] = []
    size = max(1, len(positive))
    place_of = {span: sum(_place(positive[n], span) for n in shows[span]) / len(shows[span]) for span in rare}
    while len(chosen) < search.count and rare:
        value = {span: len(shows[span] - told) / size - lacking for span, lacking in rare.items()}
        most = max(value.values())
        nearly = [span for span in value if value[span] >= most - min(_NEARLY, most / 2)]
        best = min(nearly, key=lambda span: (round(place_of[span]), len(span), -value[span], span))
        gained = len(shows[best] - told) / size
        if gained < search.share or gained <= rare[best]:
            break
        chosen.append(best)
        told |= shows[best]
        del rare[best]
    return chosen


def _holders(answers: Sequence[Tokens], length: int) -> dict[Tokens, set[int]]:
    """For each run of tokens, the answers that it is in."""
    holders: dict[Tokens, set[int]] = defaultdict(set)
    for number, answer in enumerate(answers):
        for start in range(len(answer)):
            for end in range(start + 1, min(start + length, len(answer)) + 1):
                holders[tuple(answer[start:end])].add(number)
    return dict(holders)


def _place(answer: Tokens, span: Tokens) -> int:
    """Where a span that is in an answer begins."""
    return next(n for n in range(len(answer)) if tuple(answer[n : n + len(span)]) == span)
