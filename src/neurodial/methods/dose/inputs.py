"""What a strength is searched on: the margin, the prompts of either side, and the neutral answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from neurodial.circuit.report import NeutralAnswers
from neurodial.errors import PromptError
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import own_answers
from neurodial.margins.choose_margin import BehaviourMargin, choose_margin
from neurodial.margins.margin import Alternatives, Openers
from neurodial.methods.apart import check_apart
from neurodial.methods.base import SearchOptions
from neurodial.methods.check import check_search_prompts
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.behaviours import PromptList
from neurodial.prompts.pairs import PairSet
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example
from neurodial.strength.development import Development

FEWEST = 1
"""Neutral answers that cost and damage need, each."""


@dataclass(frozen=True)
class DoseInputs:
    """What effect and cost are measured on, and what a strength is searched on.

    Attributes:
        margin: of the behaviour.
        about: the discovery prompts that the change is about.
        costing: neutral answers for the cost; none, where no cost is asked for.
        damage: other neutral answers, for the divergence that the search measures.
        neutral: which answers these are, and how many more were left out since they show the behaviour.
    """

    margin: BehaviourMargin
    about: tuple[Example, ...]
    costing: tuple[Passage, ...]
    damage: tuple[Passage, ...]
    neutral: NeutralAnswers

    def report(self) -> dict[str, Any]:
        """What a `DoseReport` holds of the margin."""
        margin = self.margin.pushed
        values: dict[str, Any] = {"margin": type(margin).__name__, "margin_text": self.margin.text}
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
    with_cost: bool = True,
    progress: Progress = silent,
) -> DoseInputs:
    """Find the margin and let the model answer the neutral prompts; those that show the behaviour are left out.

    Args:
        subject: the model.
        pairs: the prompts.
        method: with its options.
        margin: a caller's own, instead of the method's.
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
    if margin is None:
        margin = choose_margin(
            subject, pairs, direction=method.direction, kind=method.margin, system=method.system, progress=progress
        )
    decoding = Decoding(max_new_tokens=method.answer_tokens, batch_size=32, system=method.system)
    lists = [neutral.costing, neutral.damage] if with_cost else [neutral.damage]
    answered = [own_answers(subject, prompts, decoding=decoding, progress=progress) for prompts in lists]
    *costing, damage = [_without(passages, margin.openers, neutral.source) for passages in answered]
    used = sum(map(len, costing)) + len(damage)
    left_out = None if margin.openers is None else sum(map(len, answered)) - used
    answers = NeutralAnswers(neutral.source.name, neutral.source.hash, used, left_out)
    return DoseInputs(margin, pairs.discovery.about(method.direction), tuple(chain(*costing)), damage, answers)


def _without(passages: Sequence[Passage], behaviour: Openers | None, neutral: PromptList) -> tuple[Passage, ...]:
    """The neutral answers that do not begin as the behaviour's do: the cost would protect the behaviour."""
    if behaviour is None:
        return tuple(passages)
    clean = tuple(p for p in passages if not behaviour.matches(p.tokens[p.prompt_length :]))
    if len(clean) < FEWEST:
        listed = ", ".join(map(repr, behaviour.texts[:5]))
        raise PromptError(
            f"{len(passages) - len(clean)} of {len(passages)} answers to the neutral prompts {neutral.name!r} begin as "
            f"the behaviour's do ({listed}).",
            wanted=f"at least {FEWEST} neutral answers without the behaviour, to measure damage on",
            fix="Give other neutral prompts (--neutral FILE, or Dose(neutral=...)), or take another margin.",
        )
    return clean
