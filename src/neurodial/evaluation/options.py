"""Every option of an evaluation, each default in one place. Torch-free: the command line reads this too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from neurodial.errors import OptionError, UnknownNameError, near_names
from neurodial.generation.decoding import Decoding
from neurodial.methods.base import check_broken
from neurodial.options import noted

Thinking = Literal["leave-out", "apart"]
MeasuredSplit = Literal["test", "development"]
ReportedMargin = Literal["recorded", "behaviour", "alternatives", "openers", "spans", "answer", "own-answers", "none"]


WHOLE_DETECTORS = ("regex:", "bare:regex:")
"""Beginnings of detectors' names that may hold commas."""


def _detector_names() -> Sequence[str]:
    from neurodial.evaluation.detectors.registry import detector_names

    return detector_names()


@dataclass(frozen=True)
class HarnessOptions:
    """How benchmarks are run.

    Attributes:
        tasks: `mmlu`, `mmlu:FILE` or `mmlu:FOLDER`, which are scored here; or tasks of lm-evaluation-harness: names, or
            paths of task files.
        limit: at most this many documents of each task (of each subject, where a harness task has subjects); of MMLU in
            all, 1000 where it is None.
        fewshot: examples before each question; none: the task's own number, of MMLU 5.
        batch_size: rows of a batch of the harness.
        chat: put the harness's questions into the model's chat template.
        seed: of the draw of MMLU's questions, and of the neurons that its positive control switches off.

    Example:
        >>> HarnessOptions(("mmlu",), limit=20).batch_size
        8
    """

    tasks: tuple[str, ...] = ()
    limit: int | None = field(default=None, metadata=noted(name="task_limit"))
    fewshot: int | None = None
    batch_size: int = 8
    chat: bool = field(default=False, metadata=noted(name="task_chat"))
    seed: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise OptionError(f"The task limit is {self.limit}.", wanted="at least 1, or None for all")
        if self.batch_size < 1 or (self.fewshot is not None and self.fewshot < 0):
            raise OptionError(
                f"batch_size is {self.batch_size} and fewshot {self.fewshot}.", wanted="at least 1, and at least 0"
            )


@dataclass(frozen=True)
class Evaluation:
    """What is measured, on how much, and how.

    Attributes:
        answers: make answers and judge them; without, only teacher-forced measures: dense grids are cheap so.
        detectors: names of detectors (`neurodial detectors` lists them); none: the behaviour's own, and for refusal
            every published list too.
        decoding: length, temperature, seed, batch size and system prompt of the answers.
        prompts: at most this many test prompts of each side; none for all.
        split: whose prompts are measured: `test`, which none means too; or `development`, to choose a dial by before
            the test split is looked at.
        neutral: neutral prompts of the test split, for text quality and divergence; 0 for none.
        over_refusal: safe prompts that sound unsafe, for refusal alone; 0 for none.
        divergence_tokens: longest neutral answer on which divergence is measured.
        margin: the behaviour's margin, by which strengths are searched and which is reported: `recorded`, the one that
            the circuits were found with, else as the prompt set says; another kind; or `none`.
        perplexity: texts written by people on which perplexity is measured; 0 for none.
        questions: questions of our multiple-choice set; 0 for none.
        speed: measure how much slower a steered forward pass is.
        thinking: leave a reasoning model's think block out of what is scored, or score it apart as well.
        development: at most this many development prompts and neutral answers when strengths of other methods are
            searched.
        kl_limit: the damage in nats per token that other methods may do at dial 1.
        max_degenerate: how many more of their answers to development prompts may break down, as a share; none: any.
        max_broken: how far the mean brokenness of those answers may rise; none: any.
        seeds: of the random controls.
        harness: MMLU and tasks of lm-evaluation-harness, run at every dial.

    Example:
        >>> Evaluation().decoding.max_new_tokens
        128
    """

    answers: bool = True
    detectors: tuple[str, ...] = field(default=(), metadata=noted(listed=_detector_names, whole_after=WHOLE_DETECTORS))
    decoding: Decoding = field(default_factory=Decoding)
    prompts: int | None = None
    split: MeasuredSplit | None = None
    neutral: int = 24
    over_refusal: int = 40
    divergence_tokens: int = 48
    margin: ReportedMargin = "recorded"
    perplexity: int = 24
    questions: int = 0
    speed: bool = True
    thinking: Thinking = "leave-out"
    development: int = 20
    kl_limit: float = 0.1
    max_degenerate: float | None = None
    max_broken: float | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    harness: HarnessOptions = field(default_factory=HarnessOptions, metadata=noted(in_studio=False))

    @classmethod
    def quick(cls) -> Evaluation:
        """Little of everything, to see within minutes whether more is worth it; its intervals are wide."""
        decoding = Decoding(max_new_tokens=48)
        return cls(decoding=decoding, prompts=8, neutral=8, over_refusal=0, perplexity=0, speed=False)

    @property
    def measured(self) -> MeasuredSplit:
        """The split whose prompts are measured."""
        return self.split or "test"

    def __post_init__(self) -> None:
        counts = {
            "neutral": self.neutral,
            "over_refusal": self.over_refusal,
            "perplexity": self.perplexity,
            "questions": self.questions,
        }
        for name, count in counts.items():
            if count < 0:
                raise OptionError(f"{name} is {count}.", wanted="0 for none, or more")
        for name, least in {"divergence_tokens": self.divergence_tokens, "development": self.development}.items():
            if least < 1:
                raise OptionError(f"{name} is {least}.", wanted="at least 1")
        if self.prompts is not None and self.prompts < 1:
            raise OptionError(f"prompts is {self.prompts}.", wanted="at least 1, or None for all")
        if not self.kl_limit > 0:
            raise OptionError(f"The KL limit is {self.kl_limit}.", wanted="more than 0 nats per token")
        check_broken(self.max_degenerate, self.max_broken)
        if self.thinking not in get_args(Thinking):
            raise OptionError(f"thinking is {self.thinking!r}.", wanted="leave-out or apart")
        if self.split not in {None, *get_args(MeasuredSplit)}:
            raise OptionError(f"The split is {self.split!r}.", wanted="test or development")
        if self.margin not in get_args(ReportedMargin):
            raise UnknownNameError(
                f"The margin is {self.margin!r}.", fix=near_names(str(self.margin), get_args(ReportedMargin))
            )
        if not self.seeds:
            raise OptionError("There are no seeds for the random controls.", wanted="at least one")


def check_dials(dials: Sequence[float]) -> tuple[float, ...]:
    """Dials in rising order.

    Raises:
        OptionError: none, one twice, or one that is not finite or absurd.

    Example:
        >>> check_dials([1.0, -1.0, 0.5])
        (-1.0, 0.5, 1.0)
    """
    if not dials:
        raise OptionError("The list of dials is empty.", wanted="numbers such as -1, 0.5 and 1")
    if len(set(dials)) != len(dials):
        raise OptionError(f"The dials are {list(dials)}.", wanted="each dial once")
    if not all(math.isfinite(dial) and abs(dial) <= 100 for dial in dials):
        raise OptionError(f"The dials are {list(dials)}.", wanted="numbers from -100 to 100")
    return tuple(sorted(float(dial) for dial in dials))
