"""The phase of each cell of a pass, where steering is limited to a part of answers, or to its first tokens.

1. A pass that fills an empty cache is a prompt; with a boundary, row r's tokens from place `boundary[r]` on are not.
2. Every generated token is fed to its row's tracker, in order; the part that the tracker returns is the token's phase.
3. Rows keep their place from pass to pass; a loop that adds and removes rows sets their trackers (`Steering.follow`).
   Beam search exchanges the contents of rows, so it can't be followed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurodial.errors import SteeringError
from neurodial.intervention.when import LATE, PHASE_OF, First
from neurodial.model.subject import Subject
from neurodial.text.answer_parts import PartTracker
from neurodial.text.thinking import TOOLS

_TAIL = 48
"""Tokens of a prompt's end in which a block of thinking may be opened."""


def tracker(subject: Subject, *, starts_inside: bool = False) -> PartTracker:
    """A tracker for one answer of a model."""
    return PartTracker(subject.tokenizer, subject.thinking, subject.markers(TOOLS), starts_inside=starts_inside)


class PartsOfPass:
    """The phases of the pass that is running."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._own: list[PartTracker] = []
        self._phases = torch.zeros(0, 0, dtype=torch.long)

    def phases(self, device: torch.device) -> Tensor:
        """The phase of each cell (row, token)."""
        return self._phases.to(device)

    def look(
        self,
        cached: int,
        ids: Tensor | None,
        boundary: Sequence[int] | None,
        followed: Sequence[PartTracker] | None,
        first: First | None = None,
    ) -> None:
        """Note a pass; `first`: which of the generated tokens are the first.

        Raises:
            SteeringError: the model gets embeddings instead of tokens, or rows that were not there before.
        """
        if ids is None:
            raise SteeringError(
                "Embeddings came instead of tokens.", wanted="tokens, where steering is limited to a part of answers"
            )
        rows = ids.tolist()
        is_prompt = cached == 0
        if followed is not None:
            trackers = list(followed)
        else:
            if is_prompt:
                self._own = [self._begun(row, None if boundary is None else end) for row, end in _ends(rows, boundary)]
            trackers = self._own
        if len(trackers) != len(rows):
            raise SteeringError(
                f"A pass of {len(rows)} rows came, but {len(trackers)} answers are followed.",
                wanted="the rows that the prompts had",
            )
        if is_prompt:
            for tracker in trackers:
                tracker.restart()
        width = len(rows[0])
        starts = [width if is_prompt else 0] * len(rows)
        if boundary is not None:
            starts = [min(max(end - cached, 0), width) for _, end in _ends(rows, boundary)]
        phases = [
            [0] * start + [_phase(tracker, token, first) for token in row[start:]]
            for row, start, tracker in zip(rows, starts, trackers, strict=True)
        ]
        self._phases = torch.tensor(phases)

    def _begun(self, row: Sequence[int], end: int | None) -> PartTracker:
        """A tracker for the row's answer; a prompt that ends in an opening marker begins inside thinking."""
        prompt = row if end is None else row[:end]
        text = str(self._subject.tokenizer.decode(list(prompt[-_TAIL:]))).rstrip()
        opened = any(text.endswith(pair.begin.rstrip()) for pair in self._subject.thinking)
        return tracker(self._subject, starts_inside=opened)


def _phase(tracker: PartTracker, token: int, first: First | None) -> int:
    part = tracker.feed(token)
    if first is None:
        return PHASE_OF[part]
    made = tracker.made[part] if first.of_part else sum(tracker.made.values())
    return PHASE_OF[part] + (LATE if made > first.tokens else 0)


def _ends(rows: Sequence[Sequence[int]], boundary: Sequence[int] | None) -> list[tuple[Sequence[int], int]]:
    """Each row with the place where its prompt ends; for several answers per prompt each end is repeated."""
    if boundary is None:
        return [(row, len(row)) for row in rows]
    times = len(rows) // len(boundary)
    return list(zip(rows, [end for end in boundary for _ in range(times)], strict=True))
