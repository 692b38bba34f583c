"""From a request's body to what the engine takes: names to dials, texts to tokens, lengths against the context."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from neurodial.errors import NeurodialError
from neurodial.generation.generate import starts_inside
from neurodial.model.subject import Subject
from neurodial.prompts.prompt import Message
from neurodial.prompts.render import encode
from neurodial.prompts.template import check_options, names_variable, template_text
from neurodial.provenance import canonical_json
from neurodial.serve.failure import ApiError
from neurodial.serve.names import ModelNames
from neurodial.serve.request import Request
from neurodial.serve.schema import ChatBody, ChatMessage, CompletionBody

COMPLETION_TOKENS = 16
"""The longest completion where a request names no length, as OpenAI's API has it."""


@dataclass(frozen=True)
class Prepared:
    """What one body asks of the engine: a request for each prompt, and the prompts' texts where they are echoed."""

    requests: tuple[Request, ...]
    echoed: tuple[str, ...] = ()


class Preparer:
    """Prepares bodies. Several threads may use it; the tokenizer serves one at a time."""

    def __init__(self, subject: Subject, model_names: ModelNames, *, max_tokens: int) -> None:
        self._subject, self._model_names, self._max_tokens = subject, model_names, max_tokens
        self._lock = threading.Lock()
        subject.tokenizer("x")  # the first call may change a tokenizer's settings; later ones only read them
        self._vocabulary = subject.vocabulary

    def chat(self, body: ChatBody) -> Prepared:
        """A chat as one request.

        Raises:
            ApiError: an unknown model, a dial out of range, a chat that the template refuses, or one that is too long.
        """
        dials = self._dials(body)
        messages = tuple(_message(message) for message in body.messages)
        subject = self._with_options(body)
        try:
            with self._lock:
                [tokens] = subject.render([messages])
                inside = starts_inside(subject, messages)
        except NeurodialError as error:
            raise ApiError(400, str(error), param="messages") from error
        longest = body.max_completion_tokens or body.max_tokens
        length = self._length(tokens, longest, self._max_tokens, "messages", least=1)
        return Prepared((self._request(body, tokens, dials, length, top=body.top, starts_inside=inside),))

    def completion(self, body: CompletionBody) -> Prepared:
        """Prompts as a request each.

        Raises:
            ApiError: an unknown model, a dial out of range, or a prompt that is empty, too long or of unknown tokens.
        """
        dials = self._dials(body)
        echo = bool(body.echo)
        requests, texts = [], []
        for prompt in body.prompts:
            tokens = self._tokens(prompt)
            length = self._length(tokens, body.max_tokens, COMPLETION_TOKENS, "prompt", least=0 if echo else 1)
            scored_prompt = echo and body.logprobs is not None
            requests.append(self._request(body, tokens, dials, length, top=body.logprobs, echo=scored_prompt))
            texts.append(prompt if isinstance(prompt, str) else self._decode(tokens))
        return Prepared(tuple(requests), tuple(texts) if echo else ())

    def _with_options(self, body: ChatBody) -> Subject:
        """The model with the template options of one request.

        Raises:
            ApiError: the chat template has no such variable.
        """
        text = template_text(self._subject.tokenizer, {"tools": body.tools}) or ""
        options = dict(body.chat_template_kwargs or {})
        if body.tools:
            if not names_variable(text, "tools"):
                message = "tools: this server takes only [], as this model's chat template names no tools."
                raise ApiError(400, message, param="tools")
            options["tools"] = body.tools
        if body.reasoning_effort is not None:
            options |= _effort(text, body.reasoning_effort)
        try:
            template = self._subject.template.updated(options)
            check_options(text, template.options)
        except NeurodialError as error:
            raise ApiError(400, str(error), param="chat_template_kwargs") from error
        return replace(self._subject, template=template)

    def _dials(self, body: ChatBody | CompletionBody) -> tuple[float, ...]:
        return self._model_names.dials(body.model, [(circuit.name, circuit.dial) for circuit in body.circuits])

    def _tokens(self, prompt: str | list[int]) -> tuple[int, ...]:
        if isinstance(prompt, str):
            with self._lock:
                tokens = encode(self._subject.tokenizer, prompt)
        else:
            tokens = tuple(prompt)
        if not tokens:
            raise ApiError(400, "The prompt has no tokens. Wanted: some text.", param="prompt")
        if max(tokens) >= self._vocabulary:
            shown = f"{max(tokens)} ({self._decode([max(tokens)])!r})" if isinstance(prompt, str) else str(max(tokens))
            message = f"The prompt has the token {shown}. Wanted: ids below {self._vocabulary}."
            raise ApiError(400, message, param="prompt")
        return tokens

    def _decode(self, tokens: Sequence[int]) -> str:
        with self._lock:
            text: str = self._subject.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def _length(self, tokens: Sequence[int], asked: int | None, default: int, param: str, *, least: int) -> int:
        """The longest answer, checked against the context."""
        context = self._subject.context_length
        room = None if context is None else context - len(tokens)
        if asked is not None and asked < least:
            raise ApiError(400, f"max_tokens is {asked}. Wanted: at least {least}.", param="max_tokens")
        length = asked if asked is not None else default if room is None else max(least, min(default, room))
        if room is not None and length > room:
            raise ApiError(
                400,
                f"The prompt has {len(tokens)} tokens and the answer may have {length}. Wanted: at most {context} "
                "together, the model's context. Shorten the prompt or ask for fewer tokens.",
                param=param,
                code="context_length_exceeded",
            )
        return length

    @staticmethod
    def _request(
        body: ChatBody | CompletionBody,
        tokens: tuple[int, ...],
        dials: tuple[float, ...],
        length: int,
        **more: Any,
    ) -> Request:
        return Request(
            tokens=tokens,
            dials=dials,
            max_tokens=length,
            temperature=1.0 if body.temperature is None else body.temperature,
            top_p=1.0 if body.top_p is None else body.top_p,
            seed=body.seed,
            top_k=max(0, body.top_k or 0),
            min_p=body.min_p or 0.0,
            stop=body.stops,
            **more,
        )


def _message(message: ChatMessage) -> Message:
    role = "system" if message.role == "developer" else message.role
    return Message(role, message.text, canonical_json(message.more) if message.more else "")


def _effort(text: str, effort: str) -> dict[str, Any]:
    """OpenAI's `reasoning_effort` as a variable of the template: its own, or thinking turned off and on.

    Raises:
        ApiError: the template has neither, or can't do so little or much.
    """
    if names_variable(text, "reasoning_effort"):
        return {"reasoning_effort": effort}
    switch = next((name for name in ("enable_thinking", "thinking") if names_variable(text, name)), None)
    if switch is None:
        raise ApiError(
            400,
            "reasoning_effort: this model's chat template has no such variable, and none that turns thinking off. "
            "Leave the field out.",
            param="reasoning_effort",
        )
    return {switch: effort not in {"none", "minimal"}}
