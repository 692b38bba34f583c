"""What a strength is searched on: the margin, the prompts of either side, and the neutral answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from neurodial.circuit.report import NeutralAnswers
from neurodial.errors import MarginError, PromptError
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import passages_of
from neurodial.generation.generate import Answer, generate
from neurodial.margins.behaviour_margin import BehaviourMargin
from neurodial.margins.choose_margin import choose_margin
from neurodial.margins.judged import Evidence, Shows, judge, judge_answers
from neurodial.margins.margin import CEILING, Alternatives, Openers
from neurodial.margins.measure import measure_margins
from neurodial.methods.apart import check_apart
from neurodial.methods.base import SearchOptions
from neurodial.methods.check import check_search_prompts
from neurodial.model.subject import Subject
from neurodial.progress import Progress, Stopwatch, silent
from neurodial.prompts.behaviours import PromptList
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example, Prompt
from neurodial.strength.development import Development

FEWEST = 1
"""Neutral answers that cost and damage need, each."""

_AT_ONCE = 8  # prompts on which a margin is looked at for its ceiling, before the next


@dataclass(frozen=True)
class DoseInputs:
    """What effect and cost are measured on, and what a strength is searched on.

    Attributes:
        margin: of the behaviour.
        about: the discovery prompts that the change is about.
        costing: neutral answers for the cost; none, where no cost is asked for.
        damage: other neutral answers, for the divergence that the search measures.
        neutral: which answers these are, and how many more were left out since they show the behaviour.
        watch: how long each part took.
    """

    margin: BehaviourMargin
    about: tuple[Example, ...]
    costing: tuple[Passage, ...]
    damage: tuple[Passage, ...]
    neutral: NeutralAnswers
    watch: Stopwatch = field(default_factory=Stopwatch)

    def report(self) -> dict[str, Any]:
        """What a `DoseReport` holds of the margin."""
        margin = self.margin.pushed
        values: dict[str, Any] = {
            "margin": type(margin).__name__,
            "margin_text": self.margin.text,
            "weighed": self.margin.weighed,
            "judged_by": self.margin.judged_by,
        }
        behaviour = self.margin.openers
        if behaviour is not None:
            values["openers"] = behaviour.texts
            values["coverage"] = {"positive": behaviour.positive, "negative": behaviour.negative}
        if isinstance(margin, Alternatives):
            openings = margin.openings
            values["alternatives"] = openings.texts
            values["alternatives_coverage"] = {"positive": openings.negative, "negative": openings.positive}
        return values

    def development(
        self, subject: Subject, pairs: PairSet, method: SearchOptions, progress: Progress = silent
    ) -> Development:
        """What strengths are searched on: the development prompts that the change is about."""
        return Development(
            subject,
            self.margin.pushed,
            pairs.development.about(method.direction),
            self.damage,
            direction=method.direction,
            max_degenerate=method.max_degenerate,
            max_broken=method.max_broken,
            answer_tokens=method.answer_tokens,
            system=method.system,
            progress=progress,
        )


def gather_inputs(
    subject: Subject,
    pairs: PairSet,
    method: SearchOptions,
    *,
    margin: BehaviourMargin | None = None,
    shows: Shows | None = None,
    with_cost: bool = True,
    progress: Progress = silent,
) -> DoseInputs:
    """Find the margin and let the model answer the neutral prompts; those that show the behaviour are left out.

    Args:
        subject: the model.
        pairs: the prompts.
        method: with its options.
        margin: a caller's own, instead of the method's.
        shows: the behaviour's own detector, by which margins are weighed.
        with_cost: whether prompts for the cost are answered as well.
        progress: shown while it runs.

    Raises:
        MarginError: no margin tells the sides apart, or prompts lack answers.
        PromptError: a split is missing, the sides are rendered alike, or nearly all neutral answers show the behaviour.
        OverlapError: a neutral prompt is a test prompt of the behaviour, or stands in two splits.
    """
    neutral = check_search_prompts(method, pairs, has_margin=margin is not None)
    for contrast in (pairs.discovery, pairs.development):
        check_apart(subject, contrast, system=method.system)
    decoding = Decoding(max_new_tokens=method.answer_tokens, system=method.system)
    watch = Stopwatch()
    judged = None
    if margin is None:
        with watch.part("margin"):
            judged = judge_answers(
                subject, pairs, shows, answer_tokens=method.answer_tokens, system=method.system, progress=progress
            )
    unshown = _Unshown(subject, neutral.source, decoding, shows, progress)
    with watch.part("neutral answers"):
        measured = unshown.answers(neutral.damage)
    if judged is not None:
        with watch.part("margin"):
            margin = choose_margin(
                subject,
                pairs,
                direction=method.direction,
                kind=method.margin,
                evidence=Evidence(judged, measured),
                system=method.system,
                progress=progress,
            )
    assert margin is not None  # noqa: S101  # given or chosen
    damage = unshown.passages(measured, margin)
    _refuse_certain(subject, margin, pairs.development.about(method.direction), method)
    costing: tuple[Passage, ...] = ()
    if with_cost:
        with watch.part("neutral answers"):
            costing = unshown.passages(unshown.answers(neutral.costing), margin)
    left_out = None if margin.shows is None and shows is None else sum(unshown.left_out)
    answers = NeutralAnswers(neutral.source.name, neutral.source.hash, len(costing) + len(damage), left_out)
    return DoseInputs(margin, pairs.discovery.about(method.direction), costing, damage, answers, watch)


@dataclass(frozen=True)
class _Unshown:
    """Neutral answers without those that show the behaviour: the cost would protect it, and the damage count it."""

    subject: Subject
    neutral: PromptList
    decoding: Decoding
    shows: Shows | None
    progress: Progress
    left_out: list[int] = field(default_factory=list)

    def answers(self, prompts: Sequence[Prompt]) -> list[Answer]:
        """The model's own answers, without those in which the behaviour's detector sees it."""
        answers = generate(self.subject, prompts, decoding=self.decoding, progress=self.progress)
        if self.shows is None:
            return answers
        clean = [answer for answer, shown in zip(answers, judge(self.shows, answers), strict=True) if not shown]
        self.left_out.append(len(answers) - len(clean))
        if len(clean) < FEWEST:
            raise self._all_show(len(answers) - len(clean), len(answers), "show the behaviour, by its detector")
        return clean

    def passages(self, answers: Sequence[Answer], margin: BehaviourMargin) -> tuple[Passage, ...]:
        """Answers as passages, without those that begin as the behaviour's do, or hold its spans."""
        passages = passages_of(self.subject, answers, system=self.decoding.system)
        behaviour = margin.shows
        if behaviour is None:
            return passages
        clean = tuple(p for p in passages if not behaviour.matches(p.tokens[p.prompt_length :]))
        self.left_out.append(len(passages) - len(clean))
        if len(clean) < FEWEST:
            listed = ", ".join(map(repr, behaviour.texts[:5]))
            verb = "begin as" if isinstance(behaviour, Openers) else "say what"
            raise self._all_show(len(passages) - len(clean), len(passages), f"{verb} the behaviour's do ({listed})")
        return clean

    def _all_show(self, shown: int, count: int, how: str) -> PromptError:
        return PromptError(
            f"{shown} of {count} answers to the neutral prompts {self.neutral.name!r} {how}.",
            wanted=f"at least {FEWEST} neutral answers without the behaviour, to measure damage on",
            fix="Give other neutral prompts (--neutral FILE, or Dose(neutral=...)), or take another margin.",
        )


def _refuse_certain(
    subject: Subject, margin: BehaviourMargin, examples: Sequence[Example], method: SearchOptions
) -> None:
    """Refuse openings whose slope is lost to rounding on every development prompt that the change is about.

    Raises:
        MarginError: the model begins with one of them for certain, on all of them.
    """
    if not isinstance(margin.pushed, Alternatives | Openers):
        return
    for start in range(0, len(examples), _AT_ONCE):
        some = examples[start : start + _AT_ONCE]
        values = measure_margins(subject, margin.pushed, some, system=method.system)
        certain = values if isinstance(margin.pushed, Openers) else [-value for value in values]
        if min(certain) < CEILING:
            return
    if examples:
        raise MarginError(
            f"The margin {margin.kind} is at its ceiling on all {len(examples)} development prompts: how the answer "
            "begins is certain, as far as numbers can tell, so no neuron has a slope.",
            wanted="prompts on which the model might begin otherwise",
            fix="Take another margin (--margin spans, own-answers or answer), or prompts that ask less plainly.",
        )
