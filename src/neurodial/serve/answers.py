"""Answers in the forms of OpenAI's API: whole, and as the chunks of a stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from neurodial.serve.request import FinishReason, Piece, Scored

LOWEST = -9999.0
"""Stands for a probability of 0: JSON has no infinities."""


@dataclass
class Collected:
    """One answer as it comes in: its text, its tokens, and how it ended."""

    text: str = ""
    scored: list[Scored] = field(default_factory=list)
    reason: FinishReason = "length"
    tokens: int = 0

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        self.text += piece.text
        self.scored += piece.scored


@dataclass(frozen=True)
class Form(ABC):
    """How answers to one request are written.

    Attributes:
        identifier: of the answer.
        created: seconds since 1970.
        model: as the request named it.
        tokenizer: turns token ids into their texts.
        has_scores: whether log-probabilities were asked for.
        echoed: the prompts, where they are echoed.
    """

    identifier: str
    created: int
    model: str
    tokenizer: Any
    has_scores: bool
    echoed: tuple[str, ...] = ()

    def whole(self, answers: Sequence[Collected], prompt_tokens: int) -> dict[str, Any]:
        """The answer to a request that is not streamed."""
        choices = [self.choice(index, answer) for index, answer in enumerate(answers)]
        return {**self._head(stream=False), "choices": choices, "usage": usage(answers, prompt_tokens)}

    def last(self, index: int, reason: FinishReason, *, with_usage: bool) -> dict[str, Any]:
        """The chunk that ends one choice."""
        return self._chunk({**self.delta(index, Piece("")), "finish_reason": reason}, with_usage=with_usage)

    def piece(self, index: int, piece: Piece, *, with_usage: bool) -> dict[str, Any]:
        """The chunk of a piece."""
        return self._chunk({**self.delta(index, piece), "finish_reason": None}, with_usage=with_usage)

    def total(self, answers: Sequence[Collected], prompt_tokens: int) -> dict[str, Any]:
        """The chunk that tells the usage."""
        return {**self._head(stream=True), "choices": [], "usage": usage(answers, prompt_tokens)}

    def _chunk(self, choice: dict[str, Any], *, with_usage: bool) -> dict[str, Any]:
        chunk = {**self._head(stream=True), "choices": [choice]}
        return {**chunk, "usage": None} if with_usage else chunk

    def _head(self, *, stream: bool) -> dict[str, Any]:
        kind = self.object(stream=stream)
        return {"id": self.identifier, "object": kind, "created": self.created, "model": self.model}

    def text_of(self, token: int) -> str:
        """The text of one token; incomplete characters are replaced."""
        text: str = self.tokenizer.decode([token])
        return text

    @abstractmethod
    def object(self, *, stream: bool) -> str:
        """The name of the form."""

    @abstractmethod
    def first(self, index: int, *, with_usage: bool) -> dict[str, Any] | None:
        """The chunk that opens one choice, if any."""

    @abstractmethod
    def choice(self, index: int, answer: Collected) -> dict[str, Any]:
        """A whole choice."""

    @abstractmethod
    def delta(self, index: int, piece: Piece) -> dict[str, Any]:
        """A choice's part in a chunk."""


@dataclass(frozen=True)
class ChatForm(Form):
    """The forms of `/v1/chat/completions`."""

    def object(self, *, stream: bool) -> str:
        """The name of the form."""
        return "chat.completion.chunk" if stream else "chat.completion"

    def first(self, index: int, *, with_usage: bool) -> dict[str, Any] | None:
        """The role."""
        opening = {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None}
        return self._chunk({**opening, "finish_reason": None}, with_usage=with_usage)

    def choice(self, index: int, answer: Collected) -> dict[str, Any]:
        """A message."""
        message = {"role": "assistant", "content": answer.text, "refusal": None}
        scores = self._scores(answer.scored)
        return {"index": index, "message": message, "logprobs": scores, "finish_reason": answer.reason}

    def delta(self, index: int, piece: Piece) -> dict[str, Any]:
        """A part of a message."""
        delta = {"content": piece.text} if piece.text else {}
        return {"index": index, "delta": delta, "logprobs": self._scores(piece.scored) if piece.scored else None}

    def _scores(self, scored: Sequence[Scored]) -> dict[str, Any] | None:
        if not self.has_scores:
            return None
        content = []
        for entry in scored:
            top = [self._entry(token, value) for token, value in entry.top]
            content.append({**self._entry(entry.token, entry.log_prob or 0.0), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def _entry(self, token: int, log_prob: float) -> dict[str, Any]:
        text = self.text_of(token)
        return {"token": text, "logprob": max(log_prob, LOWEST), "bytes": list(text.encode())}


@dataclass(frozen=True)
class CompletionForm(Form):
    """The forms of `/v1/completions`."""

    def object(self, *, stream: bool) -> str:
        """The name of the form; whole answers and chunks share it."""
        del stream
        return "text_completion"

    def first(self, index: int, *, with_usage: bool) -> dict[str, Any] | None:
        """The echoed prompt, if any."""
        if not self.echoed:
            return None
        return self.piece(index, Piece(self.echoed[index]), with_usage=with_usage)

    def choice(self, index: int, answer: Collected) -> dict[str, Any]:
        """A text."""
        text = self.echoed[index] + answer.text if self.echoed else answer.text
        scores = self._scores(answer.scored)
        return {"index": index, "text": text, "logprobs": scores, "finish_reason": answer.reason}

    def delta(self, index: int, piece: Piece) -> dict[str, Any]:
        """A part of a text."""
        scores = self._scores(piece.scored) if piece.scored else None
        if scores is not None:
            del scores["text_offset"]  # a chunk does not know where it begins
        return {"index": index, "text": piece.text, "logprobs": scores}

    def _scores(self, scored: Sequence[Scored]) -> dict[str, Any] | None:
        if not self.has_scores:
            return None
        texts = [self.text_of(entry.token) for entry in scored]
        values = [None if entry.log_prob is None else max(entry.log_prob, LOWEST) for entry in scored]
        top = [None if entry.log_prob is None else self._likeliest(entry) for entry in scored]
        offsets = list(accumulate((len(text) for text in texts), initial=0))[:-1]
        return {"tokens": texts, "token_logprobs": values, "top_logprobs": top, "text_offset": offsets}

    def _likeliest(self, entry: Scored) -> dict[str, float]:
        """By text; of several tokens with one text, such as incomplete characters, the likeliest."""
        return {self.text_of(token): max(value, LOWEST) for token, value in reversed(entry.top)}


def usage(answers: Sequence[Collected], prompt_tokens: int) -> dict[str, int]:
    """Token counts.

    Example:
        >>> usage([Collected(tokens=3)], 4)["total_tokens"]
        7
    """
    made = sum(answer.tokens for answer in answers)
    return {"prompt_tokens": prompt_tokens, "completion_tokens": made, "total_tokens": prompt_tokens + made}
