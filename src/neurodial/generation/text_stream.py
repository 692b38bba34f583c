"""Tokens to text, one by one, and the texts that end an answer.

1. Decode the tokens since a place where the text was complete; an incomplete character at the end waits.
2. Look for a stop text in the text that was not given out yet; it ends the answer and is not part of it.
3. Hold back what may be the beginning of a stop text.
The pieces put together are the text of all tokens decoded at once, without special tokens but those of `kept`: the
markers of thinking and of tool calls, which a client needs to separate those from the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neurodial.text.thinking import spoken

REPLACEMENT = "\ufffd"
WINDOW = 12
"""Tokens after which decoding starts further on, so that a long answer costs no more per token."""


class TextStream:
    """The text of one answer, piece by piece."""

    def __init__(self, tokenizer: Any, stop: Sequence[str] = (), *, kept: frozenset[int] = frozenset()) -> None:
        self._tokenizer, self._kept = tokenizer, kept
        self._stop = tuple(stop)
        self._tokens: list[int] = []
        self._start = 0
        self._settled = 0
        self._known = 0
        self._held = ""
        self.is_stopped = False

    def add(self, token: int) -> str:
        """The text that one more token completes; empty while it waits."""
        self._tokens.append(token)
        window = self._decode(self._start)
        complete = window.rstrip(REPLACEMENT)  # 1
        self._held += complete[self._known :]
        self._known = max(self._known, len(complete))
        if complete == window:
            self._move()
        return self._release()

    def end(self) -> str:
        """The text that was still waiting at the end of the answer."""
        if self.is_stopped:
            return ""
        self._held += self._decode(self._start)[self._known :]
        text = self._release()
        if not self.is_stopped:
            text, self._held = text + self._held, ""
        return text

    def _decode(self, start: int) -> str:
        return spoken(self._tokenizer, self._tokens[start:], self._kept)

    def _move(self) -> None:
        """Start further on, at the last place but one where the text was complete: a first token may lose its space."""
        if len(self._tokens) - self._start > WINDOW and self._settled > self._start:
            self._start = self._settled
            self._known = len(self._decode(self._start))
        if len(self._tokens) - self._settled > WINDOW // 2:
            self._settled = len(self._tokens)

    def _release(self) -> str:
        places = [place for place in (self._held.find(stop) for stop in self._stop) if place >= 0]
        if places:  # 2
            self.is_stopped = True
            text, self._held = self._held[: min(places)], ""
            return text
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)  # 3
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)
