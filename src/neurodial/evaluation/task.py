"""What an evaluation asks: which prompts, of which split, judged by which detectors, with which margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurodial.errors import PromptError
from neurodial.evaluation.detectors.base import Detector
from neurodial.evaluation.detectors.derived import undetected
from neurodial.evaluation.detectors.registry import detector, refusal_detectors
from neurodial.evaluation.options import Evaluation
from neurodial.prompts.behaviours import read_prompt_list
from neurodial.prompts.pairs import Behaviour, Contrast, PairSet, refuse_overlap
from neurodial.prompts.prompt import Example, Prompt

REFUSAL = "refusal"
"""The detector that published lists of refusals stand beside."""


@dataclass(frozen=True)
class Asked:
    """Prompts that every condition answers.

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


def task_of(
    prompts: PairSet | Contrast,
    options: Evaluation,
    detectors: Sequence[Detector] = (),
    *,
    behaviour: Behaviour | None = None,
) -> Task:
    """The task of a prompt set.

    Args:
        prompts: a whole set, whose test split is used, or a contrast to test on (its positive side shows the
            behaviour).
        options: what is measured, on how much.
        detectors: further detectors, such as judges, after the named ones.
        behaviour: what a bare contrast is about; not needed where detectors are named.

    Raises:
        OptionError: nothing says how the behaviour is recognised.
        PromptError: the set has no test prompts.
        UnknownNameError: no such detector.
        OverlapError: a neutral prompt stands among the test prompts.
    """
    pairs = prompts if isinstance(prompts, PairSet) else None
    contrast = prompts.split(options.measured) if isinstance(prompts, PairSet) else prompts
    about = behaviour or (pairs.behaviour if pairs is not None else Behaviour("custom"))
    judges = _detectors(about, options, detectors)
    shown, opposite = about.sides(contrast)
    counts_refusals = judges[0].name.startswith(REFUSAL)
    asked = [
        Asked("behaviour", _first(shown, options.prompts), is_harmful=about.is_harmful or counts_refusals),
        Asked("opposite", _first(opposite, options.prompts)),
    ]
    if options.over_refusal and counts_refusals:
        asked.append(Asked("over_refusal", _list("over_refusal", options, options.over_refusal)))
    if options.neutral:
        asked.append(Asked("neutral", _list("neutral", options, options.neutral)))
    refuse_overlap({prompt_set.name: list(prompt_set.prompts) for prompt_set in asked})
    return Task(about, tuple(asked), judges, pairs, contrast.hash)


def _list(name: str, options: Evaluation, count: int) -> tuple[Prompt, ...]:
    return read_prompt_list(name).split(options.measured)[:count]


def _first(examples: Sequence[Example], count: int | None) -> tuple[Prompt, ...]:
    prompts = tuple(example.prompt for example in examples)[:count]
    if not prompts:
        raise PromptError("There are no test prompts.", wanted="at least one on each side")
    return prompts


def _detectors(behaviour: Behaviour, options: Evaluation, further: Sequence[Detector]) -> tuple[Detector, ...]:
    if options.detectors:
        return (*(detector(name) for name in options.detectors), *further)
    if behaviour.detector:
        first = detector(behaviour.detector)
        others = refusal_detectors() if first.name == REFUSAL else []
        return (first, *(other for other in others if other.name != first.name), *further)
    if further:
        return tuple(further)
    raise undetected(behaviour)


def lacks_detector(prompts: PairSet | Contrast, options: Evaluation, further: Sequence[Detector] = ()) -> bool:
    """Whether nothing says how the behaviour is recognised, but prompts are there to derive a detector from."""
    if not isinstance(prompts, PairSet) or options.detectors or further or prompts.behaviour.detector:
        return False
    return prompts.get("discovery") is not None and prompts.get("development") is not None
