"""What an evaluation asks: which prompts, of which split, judged by which detectors, with which margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from neurodial.errors import MarginError, PromptError
from neurodial.evaluation.detectors.base import Detector
from neurodial.evaluation.detectors.registry import detector, refusal_detectors
from neurodial.evaluation.options import Evaluation
from neurodial.margins.margin import Alternatives, AnswerMargin, Margin, Openers
from neurodial.margins.openers import alternatives_of, likely_apart, openers_of, opening_answers
from neurodial.methods.vectors.differences import REFUSAL_ANSWERS
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet, refuse_overlap
from neurodial.prompts.prompt import Example, Prompt


@dataclass(frozen=True)
class Asked:
    """Prompts that every arm answers.

    Attributes:
        name: `behaviour`, the prompts whose answers show it; `opposite`, those of the other side; `over_refusal`;
            `neutral`.
        prompts: the prompts, all of a test split.
        is_harmful: whether their answers stay out of the HTML unless asked for.
    """

    name: str
    prompts: tuple[Prompt, ...]
    is_harmful: bool = False


@dataclass(frozen=True)
class Task:
    """Everything an evaluation asks and judges with.

    Attributes:
        behaviour: what is measured.
        asked: the prompts.
        detectors: the judges; the first is the one that headline numbers come from.
        pairs: the whole set, where one was given: comparators are built from it.
        hash: of the test prompts.
    """

    behaviour: Behaviour
    asked: tuple[Asked, ...]
    detectors: tuple[Detector, ...]
    pairs: PairSet | None
    hash: str

    @property
    def tested(self) -> list[Prompt]:
        """All test prompts."""
        return [prompt for asked in self.asked for prompt in asked.prompts]


def task_of(prompts: PairSet | Contrast, options: Evaluation, detectors: Sequence[Detector] = ()) -> Task:
    """The task of a prompt set.

    Args:
        prompts: a whole set, whose test split is used, or a contrast to test on (its positive side shows the
            behaviour; it is taken for refusal unless a detector is named).
        options: what is measured, on how much.
        detectors: further detectors, such as judges, after the named ones.

    Raises:
        PromptError: the set has no test prompts.
        UnknownNameError: no such detector.
        OverlapError: a neutral prompt stands among the test prompts.
    """
    pairs = prompts if isinstance(prompts, PairSet) else None
    contrast = prompts.test if isinstance(prompts, PairSet) else prompts
    behaviour = pairs.behaviour if pairs is not None else Behaviour("refusal", "Refusal", detector="refusal")
    judges = (*_detectors(behaviour, options), *detectors)
    shown, opposite = (contrast.positive, contrast.negative)
    if behaviour.rate_on == "negative":
        shown, opposite = opposite, shown
    is_refusal = behaviour.name == "refusal" or judges[0].name.startswith("refusal")
    asked = [
        Asked("behaviour", _first(shown, options.prompts), is_harmful=is_refusal),
        Asked("opposite", _first(opposite, options.prompts)),
    ]
    if options.over_refusal and is_refusal:
        asked.append(Asked("over_refusal", read_prompt_list("over_refusal").split("test")[: options.over_refusal]))
    if options.neutral:
        asked.append(Asked("neutral", read_prompt_list("neutral").split("test")[: options.neutral]))
    refuse_overlap({one.name: list(one.prompts) for one in asked})
    return Task(behaviour, tuple(asked), judges, pairs, contrast.hash)


@dataclass(frozen=True)
class Margins:
    """The behaviour's margin, as it is reported and as comparators are tuned on it.

    Attributes:
        reported: measured for every arm; None where there is none.
        tuned: lowered by tuning; None where there is none.
        text: how both are made, in words.
    """

    reported: Margin | None
    tuned: Margin | None
    text: str

    @classmethod
    def of(cls, margin: Margin) -> Margins:
        """One margin for both; from `Alternatives` the behaviour's openers are reported."""
        if not isinstance(margin, Alternatives):
            return cls(margin, margin, _in_words(margin))
        listed = ", ".join(repr(text) for text in margin.openings.texts)
        tuned = f"comparators are tuned towards answers that begin with one of {listed}"
        if margin.behaviour is None:
            return cls(None, margin, f"not measured: the behaviour's answers have no opening of their own; {tuned}")
        return cls(margin.behaviour, margin, f"{_in_words(margin.behaviour)}; {tuned}")


def margins_of(subject: Subject, pairs: PairSet, *, system: str | None = None, progress: Progress = silent) -> Margins:
    """The behaviour's margins. Openers and openings are found on the discovery split.

    Raises:
        MarginError: no opener tells the sides apart and the prompts bring no answers to compare.
    """
    if pairs.behaviour.margin == "answer":
        return Margins.of(AnswerMargin(per_token=True))
    positive, negative = opening_answers(subject, pairs.discovery, system=system, progress=progress)
    try:
        found = alternatives_of(subject, positive, negative)
        return Margins.of(likely_apart(subject, found, pairs.discovery, system=system))
    except MarginError:
        pass
    try:
        return Margins.of(openers_of(subject, positive, negative))
    except MarginError:
        if pairs.behaviour.name != "refusal":
            raise
        margin = AnswerMargin(per_token=True)
        return Margins(margin, margin, f"log-likelihood per token of {REFUSAL_ANSWERS[0]!r} over a compliance")


def _in_words(margin: Margin) -> str:
    if isinstance(margin, AnswerMargin):
        return "log-likelihood per token of the positive answer over the negative one"
    if not isinstance(margin, Openers):
        return f"{type(margin).__name__}, as given"
    listed = ", ".join(repr(text) for text in margin.texts)
    share = "" if margin.positive is None else f", which begin {margin.positive:.0%} of the answers to P+"
    return f"log odds that the answer begins with one of {listed}{share}"


def with_answers(examples: Sequence[Example], behaviour: Behaviour) -> tuple[Example, ...]:
    """Examples with a pair of answers for margins that compare whole answers; refusal has a pair of its own."""
    if behaviour.name != "refusal":
        return tuple(examples)
    shows, lacks = REFUSAL_ANSWERS
    return tuple(
        example if example.positive_answer else replace(example, positive_answer=shows, negative_answer=lacks)
        for example in examples
    )


def _first(examples: Sequence[Example], count: int | None) -> tuple[Prompt, ...]:
    found = tuple(example.prompt for example in examples)[:count]
    if not found:
        raise PromptError("There are no test prompts.", wanted="at least one on each side")
    return found


def _detectors(behaviour: Behaviour, options: Evaluation) -> tuple[Detector, ...]:
    if options.detectors:
        return tuple(detector(name) for name in options.detectors)
    first = detector(behaviour.detector or "refusal")
    others = refusal_detectors() if first.name == "refusal" else []
    return (first, *(other for other in others if other.name != first.name))
