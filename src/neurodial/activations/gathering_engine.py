"""What discovery asks of an engine that runs the model in place of transformers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurodial.activations.collect import Reader, Reading
from neurodial.model.subject import Subject
from neurodial.progress import Progress, silent
from neurodial.prompts.render import Tokens


@dataclass(frozen=True)
class Gathered:
    """What an engine gathered.

    Attributes:
        read: gives it to sinks, as `collect` does.
        dtype: that the engine computed in.
        record: the engine, its version, quantisation and sizes, for the origin of what is found.
    """

    read: Reader
    dtype: str
    record: Mapping[str, Any]


class GatheringEngine(ABC):
    """A program beside this one that runs a model."""

    @property
    @abstractmethod
    def subject(self) -> Subject:
        """The model's tokenizer, shape and identity; its weights stay where they are stored."""

    @abstractmethod
    def gather(self, sequences: Sequence[Tokens], reading: Reading, *, progress: Progress = silent) -> Gathered:
        """Run every sequence once and give the activations of every neuron at the position read.

        Args:
            sequences: rendered prompts; what stands twice is run once.
            reading: the position.
            progress: shown while it runs.

        Raises:
            EngineError: the engine can't start or ended early, or not every neuron of every prompt was seen once.
        """
