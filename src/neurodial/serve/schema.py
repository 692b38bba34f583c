"""What clients may send: OpenAI's fields, and `circuits`.

A field that this server can't honour is refused unless it has its neutral value, and an unknown one is refused
outright: a misspelt `circuits` must not pass as the unsteered model.
"""

from __future__ import annotations

import contextlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "suffix": (None, ""),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "parallel_tool_calls": (None, True, False),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "repetition_penalty": (None, 1),
}
"""What this server does anyway; any other value is refused."""

Text = Annotated[str, Field(max_length=10_000_000)]
Stop = Annotated[str, Field(min_length=1, max_length=200)]
Id = Annotated[int, Field(ge=0)]


class CircuitDial(BaseModel):
    """A circuit and its strength; without one, the dial that the server was started with."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)
    name: str
    dial: float | None = None


class CalledFunction(BaseModel):
    """The function of a tool call; OpenAI's clients send the arguments as the text of a JSON object."""

    name: Annotated[str, Field(min_length=1, max_length=400)]
    arguments: Text | dict[str, Any] = ""


class ToolCall(BaseModel):
    """A call of a tool in an earlier answer."""

    id: str | None = None
    type: Literal["function"] = "function"
    function: CalledFunction

    @property
    def rendered(self) -> dict[str, Any]:
        """As templates take it: with the arguments as an object where they are one."""
        given = self.function.arguments
        arguments: Any = given
        if isinstance(given, str):
            with contextlib.suppress(ValueError):
                arguments = json.loads(given)
            arguments = arguments if isinstance(arguments, dict) else given
        function = {"name": self.function.name, "arguments": arguments}
        return {"type": self.type, "function": function} | ({} if self.id is None else {"id": self.id})


class TextPart(BaseModel):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    name: Annotated[str, Field(max_length=400)] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Annotated[str, Field(max_length=400)] | None = None
    reasoning_content: Text | None = None
    # What clients send back of an answer as they got it; nothing of it can be rendered.
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and not self.tool_calls:
            raise ValueError(f"content: it is null. Wanted: a text, in a message of the {self.role} without tool_calls")
        return self

    @property
    def text(self) -> str:
        """The content as one text."""
        if self.content is None:
            return ""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @property
    def more(self) -> dict[str, Any]:
        """The fields beside role and content that templates take, with the arguments of calls as objects."""
        fields = {"name": self.name, "tool_call_id": self.tool_call_id, "reasoning_content": self.reasoning_content}
        calls = None if not self.tool_calls else [call.rendered for call in self.tool_calls]
        return {key: value for key, value in (*fields.items(), ("tool_calls", calls)) if value is not None}


class StreamOptions(BaseModel):
    """What a stream says beside the text."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class _CompletionBody(BaseModel):
    """What both kinds of request share."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    model: Annotated[str, Field(max_length=400)]
    circuits: Annotated[list[CircuitDial], Field(max_length=64)] = []
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Any = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    logit_bias: Any = None
    # For the operators of a hosted service; they change no answer.
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None

    @field_validator(*NEUTRAL, check_fields=False)
    @classmethod
    def _is_neutral(cls, value: object, info: Any) -> object:
        return check_neutral(value, info.field_name)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ChatBody(_CompletionBody):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: Annotated[str, Field(max_length=40)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    functions: Any = None
    parallel_tool_calls: Any = None
    response_format: Any = None
    modalities: Any = None

    @property
    def top(self) -> int | None:
        """How many alternatives to give at each token; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionBody(_CompletionBody):
    """The body of `/v1/completions`: a text, token ids, or a list of either."""

    prompt: (
        Text
        | Annotated[list[Text], Field(min_length=1, max_length=256)]
        | Annotated[list[Id], Field(min_length=1)]
        | Annotated[list[Annotated[list[Id], Field(min_length=1)]], Field(min_length=1, max_length=256)]
    )
    echo: bool | None = False
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Any = None
    suffix: Any = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        tokens = [token for token in self.prompt if isinstance(token, int)]
        return [tokens] if tokens else [prompt for prompt in self.prompt if not isinstance(prompt, int)]


def check_neutral(value: object, field: str) -> object:
    """Refuse a value that this server can't honour.

    Raises:
        ValueError: names the values that it takes.
    """
    if value not in NEUTRAL[field]:
        raise ValueError(f"this server takes only {' or '.join(repr(v) for v in NEUTRAL[field][1:]) or 'null'}")
    return value


FIELDS = frozenset(
    name
    for model in (CircuitDial, TextPart, CalledFunction, ToolCall, ChatMessage, StreamOptions, ChatBody, CompletionBody)
    for name in model.model_fields
)
"""Every name that stands somewhere in a body."""
