"""What effect and cost are measured on: the margin, the prompts of either side, and the neutral answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neurodial.circuit.circuit import Direction
from neurodial.errors import PromptError
from neurodial.generation.decoding import Decoding
from neurodial.generation.divergence import own_answers
from neurodial.margins.margin import Alternatives, AnswerMargin, Margin, Openers
from neurodial.margins.openers import OpeningMargin, find_margin
from neurodial.margins.own_answers import find_twins
from neurodial.methods.dose.options import Dose
from neurodial.model.subject import Subject
from neurodial.progress import Progress
from neurodial.prompts.answered import refuse_missing
from neurodial.prompts.behaviours import PromptList, read_prompt_list
from neurodial.prompts.pairs import Contrast, PairSet, refuse_overlap
from neurodial.prompts.passage import Passage
from neurodial.prompts.prompt import Example, Prompt
from neurodial.provenance import sha256

MOST_SHOWING = 0.2  # of the neutral answers that may begin as the behaviour's do


@dataclass(frozen=True)
class Material:
    """What effect and cost are measured on.

    Attributes:
        margin: of the behaviour.
        direction: which side of a contrast the change is about.
        development: the development prompts of that side, then those of the other.
        costing: neutral answers for the cost.
        damage: other neutral answers, for the divergence that the search measures.
        neutral: name and hash of the neutral prompts.
        showing: share of the neutral answers that begin as the behaviour's do; None where openers don't tell.
    """

    margin: Margin
    direction: Direction
    development: tuple[tuple[Example, ...], tuple[Example, ...]]
    costing: tuple[Passage, ...]
    damage: tuple[Passage, ...]
    neutral: dict[str, str]
    showing: float | None

    def about(self, contrast: Contrast) -> tuple[Example, ...]:
        """The prompts that the change is about: those that show the behaviour, or to induce it, those that don't."""
        return contrast.positive if self.direction == "remove" else contrast.negative

    def report(self) -> dict[str, Any]:
        """The margin and the neutral prompts as plain values."""
        found: dict[str, Any] = {"margin": type(self.margin).__name__}
        behaviour = _behaviour(self.margin)
        if behaviour is not None:
            found["openers"] = list(behaviour.texts)
            found["coverage"] = {"positive": behaviour.positive, "negative": behaviour.negative}
        if isinstance(self.margin, Alternatives):
            openings = self.margin.openings
            found["alternatives"] = list(openings.texts)
            found["alternatives_coverage"] = {"positive": openings.negative, "negative": openings.positive}
        return {**found, "neutral": {**self.neutral, "showing_the_behaviour": self.showing}}


def gather(subject: Subject, pairs: PairSet, method: Dose, *, margin: Margin | None, progress: Progress) -> Material:
    """Find the margin and let the model answer the neutral prompts.

    Raises:
        MarginError: no opener or opening separates the sides, or prompts lack answers.
        PromptError: a split is missing, or too many neutral answers show the behaviour.
        OverlapError: a neutral prompt is a test prompt of the behaviour, or stands in two splits.
    """
    development = pairs.development
    about, other = development.positive, development.negative
    if method.direction == "induce":
        about, other = other, about
    if margin is None:
        refuse_missing(method.margin_for(pairs.behaviour), (pairs.discovery, pairs.development))
    neutral = read_prompt_list(method.neutral)
    costing, damage = (prompts[: method.passages] for prompts in neutral_splits(neutral))
    _refuse_test_prompts(pairs, neutral)
    margin = margin or _margin(subject, pairs, method, progress)
    decoding = Decoding(max_new_tokens=method.answer_tokens, batch_size=32, system=method.system)
    passages = own_answers(subject, costing, decoding=decoding, progress=progress)
    judged = own_answers(subject, damage, decoding=decoding, progress=progress)
    showing = _showing(margin, (*passages, *judged))
    if showing is not None and showing > MOST_SHOWING:
        raise PromptError(
            f"{showing:.0%} of the answers to the neutral prompts {neutral.name!r} begin as the behaviour's do.",
            wanted=f"neutral prompts that show the behaviour in at most {MOST_SHOWING:.0%}: the cost would protect it",
            fix="Give other neutral prompts (--neutral FILE, or Dose(neutral=...)).",
        )
    described = {"name": neutral.name, "hash": neutral.hash}
    return Material(margin, method.direction, (about, other), passages, judged, described, showing)


def neutral_splits(neutral: PromptList) -> tuple[list[Prompt], list[Prompt]]:
    """Neutral prompts for the cost and for the damage; a list without splits is dealt by its prompts' hashes."""
    if any(split is not None for split, _ in neutral.rows):
        return list(neutral.split("discovery")), list(neutral.split("development"))
    ordered = sorted(neutral.prompts, key=sha256)
    if len(ordered) < 2:
        raise PromptError(f"The list {neutral.name!r} has {len(ordered)} prompt.", wanted="at least 2 neutral prompts")
    return list(ordered[::2]), list(ordered[1::2])


def _margin(subject: Subject, pairs: PairSet, method: Dose, progress: Progress) -> Margin:
    kind = method.margin_for(pairs.behaviour)
    if kind == "answer":
        return AnswerMargin()
    if kind == "twin":
        contrasts = (pairs.discovery, pairs.development)
        return find_twins(subject, contrasts, system=method.system, progress=progress)
    leads_away = method.direction == "remove" and method.margin != "openers"
    openings: OpeningMargin = "alternatives" if leads_away else "openers"
    return find_margin(subject, pairs.discovery, openings, system=method.system, progress=progress)


def _behaviour(margin: Margin) -> Openers | None:
    """The openers of the behaviour that a margin knows."""
    if isinstance(margin, Alternatives):
        return margin.behaviour
    return margin if isinstance(margin, Openers) else None


def _showing(margin: Margin, passages: Sequence[Passage]) -> float | None:
    behaviour = _behaviour(margin)
    if behaviour is None:
        return None
    shown = [behaviour.matches(passage.tokens[passage.prompt_length :]) for passage in passages]
    return sum(shown) / len(shown)


def _refuse_test_prompts(pairs: PairSet, neutral: PromptList) -> None:
    test = pairs.splits[2]
    if test is None:
        return
    held_out: list[Prompt] = [example.prompt for example in (*test.positive, *test.negative)]
    used: list[Prompt] = [prompt for split, prompt in neutral.rows if split != "test"]
    refuse_overlap({"the test split": held_out, f"the neutral prompts {neutral.name!r}": used})
