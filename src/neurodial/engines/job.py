"""A job file: what another engine is to gather. Token ids, so that the engine renders and tokenises nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurodial.activations.collect import Reading
from neurodial.model.module_places import module_place
from neurodial.model.subject import Subject
from neurodial.prompts.render import Tokens
from neurodial.provenance import describe, sha256

FORMAT = "neurodial.gather"
VERSION = 1


@dataclass(frozen=True)
class GatheringJob:
    """What is to be gathered.

    Attributes:
        text: of the job's file.
        numbers: the number of each sequence in it.
        read: for each of them, which of its tokens are read.
    """

    text: str
    numbers: dict[Tokens, int]
    read: tuple[tuple[int, ...], ...]

    @property
    def digest(self) -> str:
        """What a job is known by: another model, prompt or position makes another one."""
        return sha256(self.text)


def make_job(
    subject: Subject, model: str, sequences: Sequence[Tokens], reading: Reading, *, run: Mapping[str, Any] | None = None
) -> GatheringJob:
    """The job of reading some sequences; what stands twice is run once.

    Args:
        subject: the model's shape and identity.
        model: what the engine is to load.
        sequences: rendered prompts.
        reading: the position.
        run: by what, and how: run otherwise it is another job.

    Example:
        >>> from neurodial.activations.position import Last
        >>> from neurodial.model.tiny import tiny_subject
        >>> job = make_job(tiny_subject(), "some/folder", [(5, 6, 7), (8, 9), (5, 6, 7)], Reading(Last()))
        >>> job.numbers, job.read
        ({(5, 6, 7): 0, (8, 9): 1}, ((2,), (1,)))
    """
    numbers = {tokens: number for number, tokens in enumerate(dict.fromkeys(sequences))}
    read = tuple(tuple(reading.position.read(len(tokens))) for tokens in numbers)
    value = {
        "format": FORMAT,
        "version": VERSION,
        "model": model,
        "run": dict(run or {}),
        "identity": describe(subject.identity),
        "sites": [module_place(subject, site) for site in subject.sites],
        "prompts": [
            {"tokens": list(tokens), "read": list(places)} for tokens, places in zip(numbers, read, strict=True)
        ],
    }
    return GatheringJob(json.dumps(value, ensure_ascii=False) + "\n", numbers, read)
