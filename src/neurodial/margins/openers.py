"""Finds how a behaviour's answers begin, from the model's own greedy answers.

1. Answer P+ and P- greedily, a few tokens each.
2. In the tree of answer beginnings choose, from the leaves up, the beginnings that separate the sides best: the value
   of a beginning is its share of P+ less its share of P- less a price for each opener. It is chosen where that is at
   least the value of its continuations together. So no opener begins another, and none is longer than needed.
   Beginnings that few answers to P+ have, or that are too common among those to P-, are left out.
3. Keep the most frequent ones and report the share of answers on either side that begin with one.

The same with the sides exchanged gives the openings of answers without the behaviour (`find_alternatives`). They are
many and short: answers to different requests begin differently. Some answers to P- may show the behaviour anyway,
and a few answers are a poor sample of how answers to P+ can begin. So openings whose probability on P+ is too high are
left out too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from neurodial.errors import MarginError, OptionError, UnknownNameError, near_names
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import Answer, generate
from neurodial.margins.margin import Alternatives, Openers
from neurodial.margins.measure import opening_probabilities
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Contrast
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


OpeningMargin = Literal["alternatives", "openers"]


def find_margin(
    subject: Subject,
    contrast: Contrast,
    kind: OpeningMargin,
    *,
    search: OpenerSearch | None = None,
    system: str | None = None,
    progress: Progress = silent,
) -> Alternatives | Openers:
    """The margin that is defined by openings of answers.

    Args:
        subject: the model.
        contrast: discovery prompts.
        kind: `alternatives`: answers begin with none of the openings that answers without the behaviour have;
            `openers`: they begin with one of the behaviour's.
        search: of openers; alternatives are no longer than that allows.
        system: a system message before every prompt.
        progress: shown while it runs.

    Raises:
        MarginError: no beginning of an answer tells the sides apart.
        UnknownNameError: there is no such margin.
    """
    refuse_unknown(kind)
    if kind == "openers":
        return find_openers(subject, contrast, search=search, system=system, progress=progress)
    length = ALTERNATIVES.length if search is None else min(search.length, ALTERNATIVES.length)
    alternatives = replace(ALTERNATIVES, length=length)
    return find_alternatives(subject, contrast, search=alternatives, system=system, progress=progress)


def refuse_unknown(kind: str) -> None:
    """Refuse an unknown margin of openings.

    Raises:
        UnknownNameError: offers near names.
    """
    if kind not in get_args(OpeningMargin):
        raise UnknownNameError(f"The margin is {kind!r}.", fix=near_names(kind, get_args(OpeningMargin)))


def find_openers(
    subject: Subject,
    contrast: Contrast,
    *,
    search: OpenerSearch | None = None,
    system: str | None = None,
    progress: Progress = silent,
) -> Openers:
    """The openers that tell answers to P+ from answers to P-.

    Raises:
        MarginError: no opener separates the sides; the message shows the first words of both and the other margins.
    """
    search = search or OpenerSearch()
    answers = opening_answers(subject, contrast, length=search.length, system=system, progress=progress)
    return openers_of(subject, *answers, search=search)


def opening_answers(
    subject: Subject,
    contrast: Contrast,
    *,
    length: int = OpenerSearch.length,
    system: str | None = None,
    progress: Progress = silent,
) -> tuple[list[Answer], list[Answer]]:
    """The first tokens of the greedy answers to P+ and to P-."""
    decoding = Decoding(max_new_tokens=length, system=system)
    sides = [[example.prompt for example in side] for side in (contrast.positive, contrast.negative)]
    answers = generate(subject, [*sides[0], *sides[1]], decoding=decoding, progress=progress)
    return answers[: len(sides[0])], answers[len(sides[0]) :]


def find_alternatives(
    subject: Subject,
    contrast: Contrast,
    *,
    search: OpenerSearch = ALTERNATIVES,
    system: str | None = None,
    progress: Progress = silent,
) -> Alternatives:
    """The openings of answers to P- that are rare among those to P+, and the openers of P+ where there are any.

    Raises:
        MarginError: too few answers to P- begin in ways that answers to P+ do not.
    """
    answers = opening_answers(subject, contrast, system=system, progress=progress)
    return likely_apart(subject, alternatives_of(subject, *answers, search=search), contrast, search, system=system)


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
            f"{_top(negative)}; those to the positive prompts {_top(positive)}.",
            wanted=f"openings of at least {search.coverage:.0%} of the answers to negative prompts, rare on the others",
            fix="Take margin openers or answer; or check that the two sides of the prompts differ in the behaviour.",
        ) from error
    try:
        behaviour = openers_of(subject, positive, negative)
    except MarginError:
        behaviour = None
    return Alternatives(openings, behaviour)


def likely_apart(
    subject: Subject,
    alternatives: Alternatives,
    contrast: Contrast,
    search: OpenerSearch = ALTERNATIVES,
    *,
    system: str | None = None,
) -> Alternatives:
    """Without the openings that are likely on P+ too: more than `rarity` times as likely as on P-.

    Raises:
        MarginError: too few are left.
    """
    openings = alternatives.openings
    shown, lacking = (
        opening_probabilities(subject, openings, side, system=system).mean(dim=0)
        for side in (contrast.positive, contrast.negative)
    )
    rare = [n for n in range(len(openings.tokens)) if float(shown[n]) <= search.rarity * float(lacking[n])]
    covered = float(lacking[rare].sum())
    if covered < search.coverage:
        raise MarginError(
            f"The model begins {covered:.0%} of its answers to the negative prompts in ways that are not likely on the "
            f"positive ones too; it begins {', '.join(map(repr, openings.texts[:5]))}.",
            wanted=f"at least {search.coverage:.0%}",
            fix="Take margin openers or answer; or check that the two sides of the prompts differ in the behaviour.",
        )
    tokens, texts = tuple(openings.tokens[n] for n in rare), tuple(openings.texts[n] for n in rare)
    return replace(alternatives, openings=Openers(tokens, texts, covered, float(shown[rare].sum())))


def openers_of(
    subject: Subject, positive: Sequence[Answer], negative: Sequence[Answer], *, search: OpenerSearch | None = None
) -> Openers:
    """The openers that tell the answers of one side from those of the other.

    Raises:
        MarginError: none does.
    """
    search = search or OpenerSearch()
    shows = [answer.tokens for answer in positive]
    lacks = [answer.tokens for answer in negative]
    counts = _counts(shows, search.length)
    _, openers = _best((), counts, _counts(lacks, search.length), (len(shows), len(lacks)), search)
    chosen = tuple(sorted(openers, key=lambda opener: (-counts[opener], opener))[: search.count])
    reached = _covered(shows, chosen)
    if not chosen or reached < search.coverage:
        raise MarginError(
            "No beginning of an answer tells the two sides apart: the best openers begin "
            f"{reached:.0%} of the answers to positive prompts. Answers to positive prompts begin {_top(positive)}; "
            f"to negative ones {_top(negative)}.",
            wanted=f"openers of at least {search.coverage:.0%} of the answers to positive prompts, rare on the others",
            fix="Take margin answer, which compares whole answers (positive_answer and negative_answer on each "
            "prompt), or a classifier's logit in Python (margin=ClassifierLogit(...)); or check that the model shows "
            "the behaviour at all.",
        )
    texts = tuple(subject.tokenizer.decode(list(opener)) for opener in chosen)
    return Openers(chosen, texts, reached, _covered(lacks, chosen))


def _best(
    beginning: Tokens,
    positive: Counter[Tokens],
    negative: Counter[Tokens],
    sizes: tuple[int, int],
    search: OpenerSearch,
) -> tuple[float, list[Tokens]]:
    """The value of the best openers below a beginning, and these openers."""
    longer = [b for b in positive if len(b) == len(beginning) + 1 and b[:-1] == beginning]
    least = max(2 if sizes[0] > 2 else 1, search.share * sizes[0])
    branches = [_best(b, positive, negative, sizes, search) for b in sorted(longer) if positive[b] >= least]
    worth = sum((value for value, _ in branches), 0.0)
    openers = [opener for _, openers_below in branches for opener in openers_below]
    if not beginning:
        return worth, openers
    shown, lacking = positive[beginning] / sizes[0], negative[beginning] / max(1, sizes[1])
    alone = shown - lacking - search.price
    if lacking <= search.rarity * shown and alone > 0 and alone >= worth:
        return alone, [beginning]
    return worth, openers


def _counts(answers: Sequence[Tokens], length: int) -> Counter[Tokens]:
    beginnings: list[Tokens] = [answer[:end] for answer in answers for end in range(1, min(length, len(answer)) + 1)]
    return Counter(beginnings)


def _covered(answers: Sequence[Tokens], openers: Sequence[Tokens]) -> float:
    hits = sum(any(answer[: len(opener)] == opener for opener in openers) for answer in answers)
    return hits / max(1, len(answers))


def _top(answers: Sequence[Answer]) -> str:
    """The most frequent first words, for messages."""
    common = Counter(" ".join(answer.text.split()[:3]) for answer in answers).most_common(3)
    return ", ".join(f"{text!r} ({count} of {len(answers)})" for text, count in common)
