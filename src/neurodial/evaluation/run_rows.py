"""The rows of an evaluation's folder: what each kind holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from neurodial.evaluation.detectors.base import Label


@dataclass(frozen=True)
class GenerationRow:
    """One answer.

    Attributes:
        condition: key of the condition that it was made under.
        set: name of the prompts, such as `behaviour` or `neutral`.
        index: place of the prompt in them.
        prompt: what was asked.
        answer: what was answered, without the think block.
        thinking: the think block; None where there is none.
        endless: whether the think block never ended.
        tokens: of answer and thinking together; None in files that do not say.
        finished: whether it ended by itself.
    """

    FILE: ClassVar[str] = "generations"
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    condition: str
    set: str
    index: int
    prompt: str
    answer: str
    thinking: str | None = None
    endless: bool = False
    tokens: int | None = None
    finished: bool = True

    @property
    def place(self) -> tuple[str, str, int]:
        """Condition, set and index: what no other answer has."""
        return self.condition, self.set, self.index


@dataclass(frozen=True)
class VerdictRow:
    """What one detector says of one answer.

    Attributes:
        detector: its name.
        condition: key of the answer's condition.
        set: name of the prompts; `:thinking` after it for a think block.
        index: place of the prompt in them.
        label: what it says.
        score: its own number, where it has one.
        reason: why, in a few words.
    """

    FILE: ClassVar[str] = "verdicts"
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    detector: str
    condition: str
    set: str
    index: int
    label: Label
    score: float | None = None
    reason: str = ""

    @property
    def place(self) -> tuple[str, str, int]:
        """Condition, set and index of the answer."""
        return self.condition, self.set, self.index


@dataclass(frozen=True)
class TuningRow:
    """What a search chose for another method.

    Attributes:
        method: which.
        details: its raw numbers.
    """

    FILE: ClassVar[str] = "tuning"
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    method: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasureRow:
    """A measure of one condition; by itself it says that the measure is done.

    Attributes:
        condition: the condition's key.
        measure: which measure.
    """

    FILE: ClassVar[str] = "measures"
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    condition: str
    measure: str


@dataclass(frozen=True)
class PerTextRow(MeasureRow):
    """`kl`, `perplexity` and `surprise`: a number for each text, and how many tokens it is of.

    Attributes:
        values: nats per token for `kl`; the text's whole log-likelihood in nats for the others.
        tokens: scored tokens of each text.
    """

    values: tuple[float, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class MarginRow(MeasureRow):
    """`margin`: of each test prompt, in nats.

    Attributes:
        values: the margins.
        is_opener: whether they are log odds of how an answer begins.
    """

    values: tuple[float, ...]
    is_opener: bool


@dataclass(frozen=True)
class QuestionsRow(MeasureRow):
    """`questions`: our own multiple choice.

    Attributes:
        right: whether each was answered rightly.
        values: log-likelihood of the right choice in nats per token.
    """

    right: tuple[bool, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class SpeedRow(MeasureRow):
    """`speed`: a steered forward pass over a plain one.

    Attributes:
        values: the ratios, one for each repeat.
        median: of them.
    """

    values: tuple[float, ...]
    median: float


@dataclass(frozen=True)
class ControlRow(MeasureRow):
    """`control`: what a random tenth of the neurons off does to our own multiple choice.

    Attributes:
        accuracy_drop: change of the accuracy.
        accuracy_p: of McNemar's test.
        likelihood_drop: change of the right choice's log-likelihood in nats per token.
        likelihood_high: upper end of its interval.
        chance: accuracy by guessing.
        above_chance: whether the unsteered model is clearly above that.
        shows_damage: whether the set falls clearly.
    """

    accuracy_drop: float
    accuracy_p: float | None
    likelihood_drop: float
    likelihood_high: float
    chance: float
    above_chance: bool
    shows_damage: bool


@dataclass(frozen=True)
class TaskRow(MeasureRow):
    """`task:NAME`: a number of lm-evaluation-harness.

    Attributes:
        task: its name.
        metric: the harness's name of the number.
        value: the number.
        stderr: its standard error.
        n: documents.
        version: of the task.
        kind: kind of the value it was written from.
    """

    task: str
    metric: str
    value: float
    stderr: float
    n: int
    version: str
    kind: str = "TaskResult"


@dataclass(frozen=True)
class MmluSetRow(MeasureRow):
    """`mmlu:set`: which questions of MMLU a run asks; of no condition.

    Attributes:
        source: where they are from.
        digest: hash of the questions.
        n: how many are asked.
        available: how many there are.
        subjects: how many subjects they are of.
        shots: development questions before each.
        fewer: subjects whose questions have fewer before them, as more did not fit, and how many.
        seed: of the draw.
        chance: accuracy by guessing.
    """

    source: str
    digest: str
    n: int
    available: int
    subjects: int
    shots: int
    fewer: Mapping[str, int]
    seed: int
    chance: float


@dataclass(frozen=True)
class MmluRow(MeasureRow):
    """`mmlu`: each question of MMLU under one condition.

    Attributes:
        letters: whether the likeliest letter is right.
        texts: whether the likeliest choice's text is.
        texts_per_character: the same, likelihoods by character.
        given: place of the likeliest letter.
        ties: questions whose likeliest letters are equally likely.
        log_probs: of the right `letter`, and of the right choice's `text`.
    """

    letters: tuple[bool, ...]
    texts: tuple[bool, ...]
    texts_per_character: tuple[bool, ...]
    given: tuple[int, ...]
    ties: int
    log_probs: Mapping[str, tuple[float, ...]]


StoredRow = GenerationRow | VerdictRow | TuningRow | MeasureRow
R = TypeVar("R", GenerationRow, VerdictRow, TuningRow, MeasureRow)
