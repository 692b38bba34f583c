"""The one margin of a behaviour in a direction: discovery, the search for a strength and reports all use it.

1. As the user names it, or as the behaviour asks (`answer` where only whole answers tell).
2. Otherwise by openings. To remove: towards how answers without the behaviour begin (`alternatives`), else away from
   how the behaviour's answers begin (`openers`). To induce: towards the openers.
3. Where no opening tells the sides apart: by the answers written in the prompt file, or in the behaviour's.
A choice that falls through to a later step says why (`text`); a margin that the user names never does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neurodial.errors import MarginError
from neurodial.margins.margin import Alternatives, AnswerMargin, Margin, Openers
from neurodial.margins.openers import OpenerSearch, OpeningMargin, find_margin
from neurodial.margins.own_answers import OwnAnswerMargin, find_own_answers
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.answered import MarginKind, refuse_missing
from neurodial.prompts.pairs import Behaviour, Contrast, Direction, PairSet, Split

ChosenKind = Literal["alternatives", "openers", "answer", "own-answers", "given"]


@dataclass(frozen=True)
class BehaviourMargin:
    """A behaviour's margin.

    Attributes:
        kind: which one; `given` where the caller passed a margin.
        pushed: the margin that the search for a strength uses.
        reported: what is measured for every condition of a report: the behaviour's own openers where it has some.
        text: both, described in words.
    """

    kind: ChosenKind
    pushed: Margin
    reported: Margin | None
    text: str

    @classmethod
    def of(cls, margin: Margin, *, kind: ChosenKind = "given", reason: str = "") -> BehaviourMargin:
        """A margin with the margin to report: that itself, or of `Alternatives` the behaviour's openers."""
        because = f"; {reason}" if reason else ""
        if not isinstance(margin, Alternatives):
            return cls(kind, margin, margin, _in_words(margin) + because)
        listed = ", ".join(repr(text) for text in margin.openings.texts)
        pushed = f"strengths are searched towards answers that begin with one of {listed}"
        if margin.behaviour is None:
            text = f"not reported: the behaviour's answers have no opening of their own; {pushed}"
            return cls(kind, margin, None, text + because)
        return cls(kind, margin, margin.behaviour, f"{_in_words(margin.behaviour)}; {pushed}{because}")

    @property
    def openings(self) -> Alternatives | Openers:
        """The pushed margin, if it is one of openings.

        Raises:
            MarginError: it is another.
        """
        if isinstance(self.pushed, Alternatives | Openers):
            return self.pushed
        raise MarginError(f"The margin {self.kind} has no openings.", wanted="alternatives or openers")

    @property
    def openers(self) -> Openers | None:
        """How the behaviour's answers begin, where that is known."""
        if isinstance(self.pushed, Alternatives):
            return self.pushed.behaviour
        return self.pushed if isinstance(self.pushed, Openers) else None

    def record(self) -> dict[str, Any]:
        """What a circuit keeps of it: `recorded_margin` makes it again."""
        openings = self.pushed.openings if isinstance(self.pushed, Alternatives) else None
        openings_by_name = {"openers": self.openers, "alternatives": openings}
        return {
            "kind": self.kind,
            **{name: _openers_record(openers) for name, openers in openings_by_name.items() if openers is not None},
        }

    def for_prompts(
        self, subject: Subject, contrasts: Sequence[Contrast], *, system: str | None = None, progress: Progress = silent
    ) -> BehaviourMargin:
        """The same, able to measure the prompts of more contrasts, such as a test split."""
        if not isinstance(self.pushed, OwnAnswerMargin):
            return self
        return BehaviourMargin.of(
            self.pushed.extended(subject, contrasts, system=system, progress=progress), kind=self.kind
        )


def choose_margin(
    subject: Subject,
    prompts: PairSet | Contrast,
    *,
    direction: Direction = "remove",
    kind: MarginKind = "behaviour",
    splits: Sequence[Split] = ("discovery", "development"),
    openers: OpenerSearch | None = None,
    system: str | None = None,
    progress: Progress = silent,
) -> BehaviourMargin:
    """The margin of a behaviour on a model.

    Args:
        subject: the model.
        prompts: the behaviour's prompts, or discovery prompts alone; openings are found on the discovery split.
        direction: whether the behaviour is to be removed or induced.
        kind: which margin; by default as the behaviour asks and the model allows.
        splits: whose prompts it must be able to measure.
        openers: what counts as an opener; alternatives are no longer than that allows.
        system: a system message before every prompt.
        progress: shown while it runs.

    Raises:
        MarginError: no margin tells the sides apart, or prompts lack what the named margin reads.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> pairs = PairSet.read("formality")
        >>> choose_margin(tiny_subject(), pairs).kind
        'answer'
    """
    pairs = prompts if isinstance(prompts, PairSet) else PairSet(Behaviour("custom"), (prompts, None, None))
    contrasts = [contrast for contrast in map(pairs.get, splits) if contrast is not None]
    refuse_missing(kind, pairs.behaviour, contrasts)
    if kind == "behaviour" and pairs.behaviour.margin != "answer":
        return _by_openings(subject, pairs, direction, contrasts, _Search(openers, system, progress))
    if kind in {"answer", "behaviour"}:
        return BehaviourMargin.of(AnswerMargin(fallback=pairs.behaviour.answers), kind="answer")
    if kind == "own-answers":
        margin = find_own_answers(subject, contrasts, system=system, progress=progress)
        return BehaviourMargin.of(margin, kind="own-answers")
    opening: OpeningMargin = "alternatives" if kind == "alternatives" else "openers"
    return BehaviourMargin.of(_Search(openers, system, progress).find(subject, pairs, opening), kind=opening)


def recorded_margin(
    record: Mapping[str, Any],
    subject: Subject,
    behaviour: Behaviour,
    contrasts: Sequence[Contrast],
    *,
    system: str | None = None,
    progress: Progress = silent,
) -> BehaviourMargin | None:
    """The margin that a circuit's file records; None for a margin that the caller had passed.

    Args:
        record: what `BehaviourMargin.record` gave.
        subject: the model.
        behaviour: whose answers are used for prompts without any.
        contrasts: whose prompts it must be able to measure.
        system: a system message before every prompt.
        progress: shown while it runs.

    Raises:
        MarginError: prompts lack what it reads, or the record is damaged.
    """
    kind = record.get("kind")
    if kind == "given":
        return None
    if kind == "answer":
        return BehaviourMargin.of(AnswerMargin(fallback=behaviour.answers), kind="answer")
    if kind == "own-answers":
        margin = find_own_answers(subject, contrasts, system=system, progress=progress)
        return BehaviourMargin.of(margin, kind="own-answers")
    openers = _openers_of(record.get("openers"))
    if kind == "alternatives":
        openings = _openers_of(record.get("alternatives"))
        if openings is not None:
            return BehaviourMargin.of(Alternatives(openings, openers), kind="alternatives")
    elif kind == "openers" and openers is not None:
        return BehaviourMargin.of(openers, kind="openers")
    raise MarginError(
        f"The circuit's file records a margin of kind {kind!r} that can't be read.",
        wanted="openers, alternatives, answer or own-answers, with its openings",
        fix="Name the margin to take, or discover the circuit again.",
    )


@dataclass(frozen=True)
class _Search:
    """How to search for openings."""

    openers: OpenerSearch | None
    system: str | None
    progress: Progress

    def find(self, subject: Subject, pairs: PairSet, kind: OpeningMargin) -> Alternatives | Openers:
        return find_margin(
            subject, pairs.discovery, kind, search=self.openers, system=self.system, progress=self.progress
        )


def _by_openings(
    subject: Subject,
    pairs: PairSet,
    direction: Direction,
    contrasts: Sequence[Contrast],
    search: _Search,
) -> BehaviourMargin:
    """By openings of either side, else by the written answers of the prompts or the behaviour."""
    problems: list[MarginError] = []
    kinds: tuple[OpeningMargin, ...] = ("alternatives", "openers") if direction == "remove" else ("openers",)
    for kind in kinds:
        try:
            margin = search.find(subject, pairs, kind)
        except MarginError as error:
            problems.append(error)
        else:
            return BehaviourMargin.of(margin, kind=kind, reason=problems[0].problem if problems else "")
    try:
        refuse_missing("answer", pairs.behaviour, contrasts)
    except MarginError:
        raise problems[0] from None
    return BehaviourMargin.of(AnswerMargin(fallback=pairs.behaviour.answers), kind="answer", reason=problems[0].problem)


def _openers_record(openers: Openers) -> dict[str, Any]:
    shares = {"positive": openers.positive, "negative": openers.negative}
    return {"tokens": [list(tokens) for tokens in openers.tokens], "texts": list(openers.texts), **shares}


def _openers_of(record: object) -> Openers | None:
    if not isinstance(record, Mapping):
        return None
    tokens = tuple(tuple(int(token) for token in opener) for opener in record["tokens"])
    return Openers(tokens, tuple(record["texts"]), record["positive"], record["negative"])


def _in_words(margin: Margin) -> str:
    if isinstance(margin, AnswerMargin):
        return "log-likelihood of the positive answer over the negative one"
    if isinstance(margin, OwnAnswerMargin):
        return "log-likelihood per token of the model's own answer with the behaviour over its own without"
    if not isinstance(margin, Openers):
        return f"{type(margin).__name__}, as given"
    listed = ", ".join(repr(text) for text in margin.texts)
    share = "" if margin.positive is None else f", which begin {margin.positive:.0%} of the answers to P+"
    return f"log odds that the answer begins with one of {listed}{share}"
