"""The one margin of a behaviour in a direction: discovery, the search for a strength and reports all use it.

1. As the user names it, or as the behaviour asks (`answer` where only whole answers tell).
2. Otherwise by openings. To remove: towards how answers without the behaviour begin (`alternatives`), else away from
   how the behaviour's answers begin (`openers`). To induce: towards the openers.
3. Where no opening tells the sides apart: by the answers written in the prompt file, or in the behaviour's; else by
   spans, which may stand anywhere in an answer.
4. With evidence (neutral answers, a detector), as methods that search have it: the first of openings, spans, written
   answers and the model's own answers that tells the development answers apart nearly as well as the best of them.
   What was weighed is kept and logged; one that tells them apart badly is warned of. Spans need whole answers to all
   prompts: where openings are good and prompts many, they are looked for in a part first.
A choice that falls through to a later step says why (`text`); a margin that the user names never does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from neurodial.circuit.report import MarginAgreement, told_apart
from neurodial.errors import MarginError
from neurodial.generation.decoding import Decoding
from neurodial.generation.generate import Answer, generate
from neurodial.margins.beginnings import OpenerSearch, first_words
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.find_spans import spans_of
from neurodial.margins.judged import BEGINNING, Evidence, JudgedAnswers
from neurodial.margins.margin import Alternatives, AnswerMargin, Openers
from neurodial.margins.openers import OpeningMargin, SideAnswers, find_margin
from neurodial.margins.own_answers import ANSWER_TOKENS, OwnAnswerMargin, find_own_answers
from neurodial.margins.span_margin import SpanMargin
from neurodial.margins.weigh import weigh
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.answered import MarginKind, refuse_missing
from neurodial.prompts.pairs import Behaviour, Contrast, Direction, PairSet, Split

GOOD = 0.75
"""What a margin must be worth to be taken before a later one, and not to be warned of."""

_NEAR = 0.1  # how much less than the best an earlier one may be worth
_LOOK = 24  # prompts of each side on which it is seen whether spans tell more than openings

_log = logging.getLogger(__name__)


def choose_margin(
    subject: Subject,
    prompts: PairSet | Contrast,
    *,
    direction: Direction = "remove",
    kind: MarginKind = "behaviour",
    splits: Sequence[Split] = ("discovery", "development"),
    openers: OpenerSearch | None = None,
    evidence: Evidence | None = None,
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
        evidence: what margins are weighed by, on the development split; without it none is.
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
    ways = _Ways(subject, pairs, contrasts, direction, openers, evidence, system, progress)
    if kind == "behaviour" and pairs.behaviour.margin == "answer":
        kind = "answer"
    if kind != "behaviour":
        return ways.weighed([ways.of_kind(kind)])
    return ways.first() if evidence is None else ways.best()


@dataclass(frozen=True)
class _Ways:
    """Every way to a margin."""

    subject: Subject
    pairs: PairSet
    contrasts: Sequence[Contrast]
    direction: Direction
    openers: OpenerSearch | None
    evidence: Evidence | None
    system: str | None
    progress: Progress

    @property
    def judged(self) -> JudgedAnswers | None:
        """The model's own answers, where there is evidence."""
        return None if self.evidence is None else self.evidence.judged

    def of_kind(self, kind: MarginKind) -> BehaviourMargin:
        """The margin of one kind."""
        match kind:
            case "answer":
                return BehaviourMargin.of(AnswerMargin(fallback=self.pairs.behaviour.answers), kind="answer")
            case "own-answers":
                return BehaviourMargin.of(self._own_answers(), kind="own-answers")
            case "spans":
                return BehaviourMargin.of(self._spans(), kind="spans")
        opening: OpeningMargin = "alternatives" if kind == "alternatives" else "openers"
        return BehaviourMargin.of(self._opening(opening), kind=opening)

    def first(self) -> BehaviourMargin:
        """By openings of either side, else by written answers, else by spans; none is weighed."""
        kinds: list[MarginKind] = ["answer"] if self._has("answer") else []
        if self.contrasts:
            kinds.append("spans")
        return self._first_of([self.by_openings, *(partial(self.of_kind, kind) for kind in kinds)])

    def by_openings(self) -> BehaviourMargin:
        """By openings of either side."""
        kinds: tuple[MarginKind, ...] = ("alternatives", "openers") if self.direction == "remove" else ("openers",)
        return self._first_of([partial(self.of_kind, kind) for kind in kinds])

    def best(self) -> BehaviourMargin:
        """The first margin that tells the development answers apart nearly as well as the best."""
        ways: dict[str, Callable[[], BehaviourMargin]] = {
            "openings": self.by_openings,
            "spans": partial(self.of_kind, "spans"),
        }
        if self._has("answer"):
            ways["answer"] = partial(self.of_kind, "answer")
        margins: list[BehaviourMargin] = []
        problems: list[MarginError] = []
        looked: dict[str, MarginAgreement] = {}
        for name, way in ways.items():
            try:
                if name == "spans":
                    looked = self._look_at_spans(margins)
                    if looked:
                        continue
                margins.append(self.with_worth(way()))
            except MarginError as error:
                problems.append(error)
            else:
                if _worth(margins[-1]) >= 1 - _NEAR:
                    break
        if self._has("own-answers") and all(_worth(margin) < GOOD for margin in margins) and self._differ():
            margins.append(self.with_worth(self.of_kind("own-answers")))
        if not margins:
            raise self._nothing_apart(problems)
        return self.weighed(margins, problems, looked)

    def _look_at_spans(self, margins: Sequence[BehaviourMargin]) -> dict[str, MarginAgreement]:
        """What spans are worth on a part of the prompts, where that is too little to be taken before openings.

        Empty where there are no good openings, the prompts are few anyway, or spans may be taken.

        Raises:
            MarginError: no span tells the sides of that part apart.
        """
        assert self.evidence is not None  # noqa: S101  # margins are weighed only with evidence
        splits = (self.pairs.discovery, self.pairs.development)
        few = min(len(side) for split in splits for side in (split.positive, split.negative))
        if not margins or _worth(margins[0]) < GOOD or few < 1.5 * _LOOK:
            return {}
        pairs = self.pairs.first(_LOOK)
        evidence = replace(self.evidence, judged=self.evidence.judged.first(_LOOK))
        part = replace(self, pairs=pairs, contrasts=[pairs.discovery, pairs.development], evidence=evidence)
        spans = part.with_worth(part.of_kind("spans"))
        return dict(spans.weighed) if _worth(spans) - _NEAR <= _worth(margins[0]) else {}

    def weighed(
        self,
        margins: Sequence[BehaviourMargin],
        problems: Sequence[MarginError] = (),
        looked: Mapping[str, MarginAgreement] | None = None,
    ) -> BehaviourMargin:
        """One of several margins, with what all are worth; said, and warned of where it is little."""
        if self.judged is None:
            return margins[0]
        margins = [margin if margin.weighed else self.with_worth(margin) for margin in margins]
        best = max(map(_worth, margins))
        chosen = next(margin for margin in margins if _worth(margin) >= min(best, max(best - _NEAR, GOOD)))
        figures = dict(looked or {})
        for margin in margins:
            figures.update(margin.weighed)
        because = f"; {problems[0].problem}" if problems and chosen is margins[0] else ""
        chosen = replace(chosen, weighed=figures, judged_by=self.judged.judged_by, text=chosen.text + because)
        _log.info("%s", _in_figures(chosen))
        if best < GOOD:
            _log.warning("%s", _badly(chosen))
        return chosen

    def with_worth(self, margin: BehaviourMargin) -> BehaviourMargin:
        """The margin with how well it tells the development answers apart."""
        assert self.judged is not None  # noqa: S101  # margins are weighed only with evidence
        agreement = weigh(self.subject, margin, self.pairs.development, self.judged, system=self.system)
        return replace(margin, weighed={margin.kind: agreement})

    def _opening(self, kind: OpeningMargin) -> Alternatives | Openers:
        answers = None
        if self.evidence is not None:
            judged = self.evidence.judged
            is_short = self.openers is None or self.openers.length <= BEGINNING
            sides = judged.beginnings if is_short else judged.discovery
            answers = SideAnswers(*sides, neutral=self.evidence.neutral)
        return find_margin(
            self.subject,
            self.pairs.discovery,
            kind,
            search=self.openers,
            answers=answers,
            system=self.system,
            progress=self.progress,
        )

    def _spans(self) -> SpanMargin:
        discovery = self.pairs.discovery
        contrasts = list(dict.fromkeys((discovery, *self.contrasts)))
        longest = SpanMargin.length if self.judged is None else self.judged.answer_tokens
        answers = self._answers(contrasts, longest) if self.judged is None else self.judged.all
        tokens = [answer.tokens for answer in answers]
        middle = len(discovery.positive)
        neutral = () if self.evidence is None else [answer.tokens for answer in self.evidence.neutral]
        spans = spans_of(self.subject, tokens[:middle], tokens[middle : len(discovery)], neutral)
        bare = SpanMargin(spans, {}, longest)
        return bare.reading(self.subject, contrasts, answers, system=self.system)

    def _answers(self, contrasts: Sequence[Contrast], longest: int) -> list[Answer]:
        prompts = [example.prompt for one in contrasts for example in (*one.positive, *one.negative)]
        decoding = Decoding(max_new_tokens=longest, system=self.system)
        return generate(self.subject, prompts, decoding=decoding, progress=self.progress)

    def _own_answers(self) -> OwnAnswerMargin:
        if self.judged is not None and self.judged.answer_tokens >= ANSWER_TOKENS:
            return OwnAnswerMargin({}).reading(self.subject, self.contrasts, self.judged.all)
        return find_own_answers(self.subject, self.contrasts, system=self.system, progress=self.progress)

    def _has(self, kind: MarginKind) -> bool:
        """Whether the prompts have what a kind of margin reads."""
        try:
            refuse_missing(kind, self.pairs.behaviour, self.contrasts)
        except MarginError:
            return False
        return True

    def _differ(self) -> bool:
        """Whether the model answers the two sides of the discovery prompts in different words."""
        assert self.judged is not None  # noqa: S101  # margins are weighed only with evidence
        positive, negative = ({answer.tokens for answer in side} for side in self.judged.discovery)
        return not positive & negative

    def _first_of(self, ways: Sequence[Callable[[], BehaviourMargin]]) -> BehaviourMargin:
        """The first margin that there is, with why it is not an earlier one."""
        problems: list[MarginError] = []
        for way in ways:
            try:
                margin = way()
            except MarginError as error:
                problems.append(error)
            else:
                because = f"; {problems[0].problem}" if problems else ""
                return replace(margin, text=margin.text + because)
        raise problems[0]

    def _nothing_apart(self, problems: Sequence[MarginError]) -> MarginError:
        assert self.judged is not None  # noqa: S101  # margins are weighed only with evidence
        positive, negative = self.judged.discovery
        return MarginError(
            f"Nothing tells answers to the two sides apart. Those to positive prompts begin {first_words(positive)}; "
            f"to negative ones {first_words(negative)}. {' '.join(error.problem for error in problems)}",
            wanted="prompts that the model answers with the behaviour on one side and without it on the other",
            fix="Read some answers (neurodial steer MODEL PROMPT) and make prompts that bring the behaviour out; or "
            "write both answers into the prompt file (positive_answer, negative_answer) and take --margin answer.",
        )


def _worth(margin: BehaviourMargin) -> float:
    return max(agreement.worth for agreement in margin.weighed.values())


def _in_figures(margin: BehaviourMargin) -> str:
    """The choice with the figures that it was made by."""
    count = max(agreement.answers for agreement in margin.weighed.values())
    told = f"{count} development answers told apart: {told_apart(margin.weighed)}; by {margin.judged_by}"
    return f"margin {margin.kind}: {margin.text.rstrip('.')}. {told}"


def _badly(margin: BehaviourMargin) -> str:
    worth = margin.weighed[margin.kind]
    return (
        f"The margin {margin.kind} tells development answers with the behaviour from those without badly: "
        f"{worth.accuracy:.0%} right, AUROC {worth.auroc:.2f}, by {margin.judged_by}. Neurons that move it may not "
        "move the behaviour. Name a detector in the behaviour's file, take another margin, or make prompts whose "
        "answers differ more."
    )
