"""What measuring asks of an engine that runs the model in place of transformers, once it is up.

`generate`, `measure_margins`, `measure_divergence`, `log_likelihoods` and `choice_log_probs` go through it where a
subject has one (`Subject.engine`); everything that reads hidden states or needs a slope is refused there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, cast

from neurodial.errors import MarginError
from neurodial.generation.decoding import Decoding
from neurodial.intervention.base import Intervention
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.passage import Passage
from neurodial.prompts.render import Tokens

Each = Sequence[Intervention | None]
"""An intervention, or None, for each row."""


class Continued(NamedTuple):
    """A row of tokens, and how many of them are given; the rest is scored."""

    tokens: Tokens
    given: int


class RunningEngine(ABC):
    """An engine that is ready to run a model."""

    at_once: int = 1024
    """Rows that are asked for together: the engine makes batches of its own."""

    @property
    @abstractmethod
    def asked(self) -> Mapping[str, Any]:
        """The engine, its version and what it was started with, as far as that is known before it runs."""

    @property
    @abstractmethod
    def record(self) -> Mapping[str, Any]:
        """The engine, its version, quantisation and sizes, for a report."""

    @abstractmethod
    def accept(self, interventions: Sequence[Intervention]) -> None:
        """Take up interventions that rows will be under.

        Raises:
            ExportError: the engine can't take one; says why, and what to do instead.
            ModelMismatchError: a circuit was made on another model.
        """

    @abstractmethod
    def answers(
        self, rows: Sequence[Tokens], under: Each, decoding: Decoding, stops: Sequence[int], progress: Progress = silent
    ) -> list[Tokens]:
        """What the model goes on with after each row, up to and with the first of the tokens that end an answer.

        Raises:
            EngineError: the engine can't start, ended early, or gave something else.
        """

    @abstractmethod
    def log_likelihoods(self, rows: Sequence[Continued], under: Each, progress: Progress = silent) -> list[float]:
        """The log-probability in nats of all that is scored of each row.

        Raises:
            EngineError: the engine can't start, ended early, or gave something else.
        """

    @abstractmethod
    def divergences(
        self, passages: Sequence[Passage], under: Sequence[Intervention], progress: Progress = silent
    ) -> list[list[float]]:
        """KL(unsteered || steered) under each intervention, for each passage the sum over its scored places, in nats.

        Raises:
            EngineError: the engine can't start, ended early, or gave something else.
        """


class MeasuringEngine(ABC):
    """A program beside this one that can run a model for measuring."""

    @abstractmethod
    def running(self) -> AbstractContextManager[Subject]:
        """The model, run by the engine, which ends with the block; it starts when it is first needed.

        Raises:
            EngineError: the engine's environment is not there, or is not fit.
        """


def engine_of(subject: Subject) -> RunningEngine | None:
    """The engine that runs a subject's model; None for transformers.

    Example:
        >>> from neurodial.model.tiny import tiny_subject
        >>> engine_of(tiny_subject()) is None
        True
    """
    return cast("RunningEngine | None", subject.engine)


def reads_more(margin: str) -> MarginError:
    """The error where an engine runs the model, and a margin reads what it does not give."""
    return MarginError(
        f"{margin} reads more than how likely answers are.",
        wanted="a margin of openings or answers, where an engine runs the model",
        fix="Measure it in transformers, or take another (--margin openers, alternatives or answer).",
    )


def continuations(
    engine: RunningEngine,
    prompts: Sequence[Tokens],
    asked: Sequence[Sequence[Tokens]],
    under: Each,
    progress: Progress = silent,
) -> list[list[float]]:
    """The log-probability of each continuation of each prompt.

    Args:
        engine: what runs the model.
        prompts: rendered prompts.
        asked: for each of them its continuations.
        under: for each of them an intervention, or None.
        progress: shown while it runs.
    """
    rows = [Continued((*prompt, *own), len(prompt)) for prompt, of in zip(prompts, asked, strict=True) for own in of]
    each = [intervention for intervention, of in zip(under, asked, strict=True) for _ in of]
    found = iter(engine.log_likelihoods(rows, each, progress))
    return [[next(found) for _ in of] for of in asked]
