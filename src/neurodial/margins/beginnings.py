"""How answers begin: the beginnings that tell the answers of one side from those of the other, counted in the answers.

In the tree of answer beginnings choose, from the leaves up, those that separate the sides best: the value of a
beginning is its share of P+ less its share of P- less a price for each opener. It is chosen where that is at least the
value of its continuations together. So no opener begins another, and none is longer than needed. Beginnings that few
answers to P+ have, or that are too common among those to P- (or among those to neutral prompts, where these are known),
are left out: a common word is no opener where longer beginnings tell more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurodial.errors import MarginError, OptionError
from neurodial.generation.generate import Answer
from neurodial.margins.margin import Alternatives, Openers
from neurodial.model.subject import Subject
from neurodial.prompts.render import Tokens


@dataclass(frozen=True)
class OpenerSearch:
    """What counts as an opener.

    Attributes:
        length: the longest opener in tokens; answers are generated this far.
        count: how many openers are kept.
        share: the least share of the answers to P+ that begin with an opener.
        rarity: at most this many times as frequent among the answers to P- as among those to P+.
        price: how much better an additional opener must separate the sides.
        coverage: the least share of the answers to P+ that all openers together must reach.

    Example:
        >>> OpenerSearch(length=4).length
        4
    """

    length: int = 5
    count: int = 8
    share: float = 0.02
    rarity: float = 0.5
    price: float = 0.03
    coverage: float = 0.1

    def __post_init__(self) -> None:
        if self.length < 1 or self.count < 1:
            raise OptionError(f"Openers of length {self.length}, {self.count} of them.", wanted="at least 1 of each")
        if not (0 <= self.share <= 1 and 0 <= self.rarity < 1 and 0 <= self.coverage <= 1 and self.price >= 0):
            raise OptionError(
                f"share {self.share}, rarity {self.rarity}, coverage {self.coverage}, price {self.price}.",
                wanted="shares from 0 to 1, rarity below 1, a price of 0 or more",
            )


ALTERNATIVES = OpenerSearch(length=2, count=64, share=0.0, price=0.0, coverage=0.2)
"""What counts as an opening of answers without the behaviour."""


def alternatives_of(
    subject: Subject, positive: Sequence[Answer], negative: Sequence[Answer], *, search: OpenerSearch = ALTERNATIVES
) -> Alternatives:
    """The openings of answers to P- that are rare on P+, and the openers of P+ where there are any.

    Counted in the answers alone; see `likely_apart`.

    Raises:
        MarginError: there are too few openings.
    """
    try:
        openings = openers_of(subject, negative, positive, search=search)
    except MarginError as error:
        raise MarginError(
            "Answers to the negative prompts don't begin in ways of their own: they begin "
            f"{first_words(negative)}; those to the positive prompts {first_words(positive)}.",
            wanted=f"openings of at least {search.coverage:.0%} of the answers to negative prompts, rare on the others",
            fix="Take margin openers or answer; or check that the two sides of the prompts differ in the behaviour.",
        ) from error
    try:
        behaviour = openers_of(subject, positive, negative)
    except MarginError:
        behaviour = None
    return Alternatives(openings, behaviour)


def openers_of(
    subject: Subject,
    positive: Sequence[Answer],
    negative: Sequence[Answer],
    *,
    search: OpenerSearch | None = None,
    neutral: Sequence[Answer] = (),
) -> Openers:
    """The openers that tell the answers of one side from those of the other, and from neutral ones.

    Raises:
        MarginError: none does.
    """
    search = search or OpenerSearch()
    shows = [answer.tokens for answer in positive]
    lacks = [answer.tokens for answer in negative]
    counts = _counts(shows, search.length)
    others = [_shares([a.tokens for a in answers], search.length) for answers in (negative, neutral)]
    _, openers = _best((), _Beginnings(counts, len(shows), others), search)
    chosen = tuple(sorted(openers, key=lambda opener: (-counts[opener], opener))[: search.count])
    reached = _covered(shows, chosen)
    if not chosen or reached < search.coverage:
        raise MarginError(
            "No beginning of an answer tells the two sides apart: the best openers begin "
            f"{reached:.0%} of the answers to positive prompts. Answers to positive prompts begin "
            f"{first_words(positive)}; to negative ones {first_words(negative)}.",
            wanted=f"openers of at least {search.coverage:.0%} of the answers to positive prompts, rare on the others",
            fix="Take margin answer, which compares whole answers (positive_answer and negative_answer on each "
            "prompt), or a classifier's logit in Python (margin=ClassifierLogit(...)); or check that the model shows "
            "the behaviour at all.",
        )
    texts = tuple(subject.tokenizer.decode(list(opener)) for opener in chosen)
    return Openers(chosen, texts, reached, _covered(lacks, chosen))


@dataclass(frozen=True)
class _Beginnings:
    """How often answers begin so: counts on P+, and shares of other answers."""

    positive: Counter[Tokens]
    size: int
    others: Sequence[Mapping[Tokens, float]]

    def lacking(self, beginning: Tokens) -> float:
        """The greatest share of other answers that begin so."""
        return max(shares.get(beginning, 0.0) for shares in self.others)


def _best(beginning: Tokens, beginnings: _Beginnings, search: OpenerSearch) -> tuple[float, list[Tokens]]:
    """The value of the best openers below a beginning, and these openers."""
    positive, size = beginnings.positive, beginnings.size
    longer = [b for b in positive if len(b) == len(beginning) + 1 and b[:-1] == beginning]
    least = max(2 if size > 2 else 1, search.share * size)
    branches = [_best(b, beginnings, search) for b in sorted(longer) if positive[b] >= least]
    worth = sum((value for value, _ in branches), 0.0)
    openers = [opener for _, openers_below in branches for opener in openers_below]
    if not beginning:
        return worth, openers
    shown, lacking = positive[beginning] / size, beginnings.lacking(beginning)
    alone = shown - lacking - search.price
    if lacking <= search.rarity * shown and alone > 0 and alone >= worth:
        return alone, [beginning]
    return worth, openers


def _shares(answers: Sequence[Tokens], length: int) -> dict[Tokens, float]:
    return {beginning: count / len(answers) for beginning, count in _counts(answers, length).items()}


def _counts(answers: Sequence[Tokens], length: int) -> Counter[Tokens]:
    beginnings: list[Tokens] = [answer[:end] for answer in answers for end in range(1, min(length, len(answer)) + 1)]
    return Counter(beginnings)


def _covered(answers: Sequence[Tokens], openers: Sequence[Tokens]) -> float:
    hits = sum(any(answer[: len(opener)] == opener for opener in openers) for answer in answers)
    return hits / max(1, len(answers))


def first_words(answers: Sequence[Answer]) -> str:
    """The most frequent first words, for messages."""
    common = Counter(" ".join(answer.text.split()[:3]) for answer in answers).most_common(3)
    return ", ".join(f"{text!r} ({count} of {len(answers)})" for text, count in common)
