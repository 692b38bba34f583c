"""A behaviour's margin in a direction: what a search pushes, what a report measures, and its record in a circuit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from neurodial.circuit.report import MarginAgreement
from neurodial.errors import MarginError
from neurodial.margins.find_spans import Spans
from neurodial.margins.margin import Alternatives, AnswerMargin, Margin, Openers
from neurodial.margins.own_answers import OwnAnswerMargin, find_own_answers
from neurodial.margins.span_margin import SpanMargin
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.pairs import Behaviour, Contrast

ChosenKind = Literal["alternatives", "openers", "answer", "own-answers", "spans", "given"]


@dataclass(frozen=True)
class BehaviourMargin:
    """A behaviour's margin.

    Attributes:
        kind: which one; `given` where the caller passed a margin.
        pushed: the margin that the search for a strength uses.
        reported: what is measured for every condition of a report: the behaviour's own openers where it has some.
        text: both, described in words.
        weighed: how well each margin that was considered tells the development answers apart, by its kind.
        judged_by: what said of these answers whether they show the behaviour.
    """

    kind: ChosenKind
    pushed: Margin
    reported: Margin | None
    text: str
    weighed: Mapping[str, MarginAgreement] = field(default_factory=dict)
    judged_by: str = ""

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

    @property
    def shows(self) -> Openers | Spans | None:
        """What tells from an answer's tokens alone that it shows the behaviour, where anything does."""
        return self.pushed.spans if isinstance(self.pushed, SpanMargin) else self.openers

    def record(self) -> dict[str, Any]:
        """What a circuit keeps of it: `recorded_margin` makes it again."""
        openings = self.pushed.openings if isinstance(self.pushed, Alternatives) else None
        openings_by_name = {"openers": self.openers, "alternatives": openings}
        spans = {}
        if isinstance(self.pushed, SpanMargin):
            spans = {"spans": _tokens_record(self.pushed.spans), "length": self.pushed.length}
        return {
            "kind": self.kind,
            **spans,
            **{name: _tokens_record(openers) for name, openers in openings_by_name.items() if openers is not None},
        }

    def for_prompts(
        self, subject: Subject, contrasts: Sequence[Contrast], *, system: str | None = None, progress: Progress = silent
    ) -> BehaviourMargin:
        """The same, able to measure the prompts of more contrasts, such as a test split."""
        if not isinstance(self.pushed, OwnAnswerMargin | SpanMargin):
            return self
        extended = self.pushed.extended(subject, contrasts, system=system, progress=progress)
        return replace(self, pushed=extended, reported=extended)


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
    if kind == "spans" and isinstance(record.get("spans"), Mapping):
        found = _openers_of(record["spans"])
        assert found is not None  # noqa: S101  # a mapping, as was asked
        spans = Spans(found.tokens, found.texts, found.positive or 0.0, found.negative or 0.0)
        bare = SpanMargin(spans, {}, int(record.get("length", SpanMargin.length)))
        return BehaviourMargin.of(bare.extended(subject, contrasts, system=system, progress=progress), kind="spans")
    openers = _openers_of(record.get("openers"))
    if kind == "alternatives":
        openings = _openers_of(record.get("alternatives"))
        if openings is not None:
            return BehaviourMargin.of(Alternatives(openings, openers), kind="alternatives")
    elif kind == "openers" and openers is not None:
        return BehaviourMargin.of(openers, kind="openers")
    raise MarginError(
        f"The circuit's file records a margin of kind {kind!r} that can't be read.",
        wanted="openers, alternatives, spans, answer or own-answers, with its openings or spans",
        fix="Name the margin to take, or discover the circuit again.",
    )


def _tokens_record(openers: Openers | Spans) -> dict[str, Any]:
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
    if isinstance(margin, SpanMargin):
        listed = ", ".join(repr(text) for text in margin.spans.texts)
        return (
            f"log odds, where it begins, of what answers with the behaviour say and others don't: {listed}, in "
            f"{margin.spans.positive:.0%} of the answers to P+ and {margin.spans.negative:.0%} of those to P-"
        )
    if not isinstance(margin, Openers):
        return f"{type(margin).__name__}, as given"
    listed = ", ".join(repr(text) for text in margin.texts)
    share = "" if margin.positive is None else f", which begin {margin.positive:.0%} of the answers to P+"
    return f"log odds that the answer begins with one of {listed}{share}"
