"""What clients may send: OpenAI's fields, and `circuits`.

A field that this server can't honour is refused unless it has its neutral value, and an unknown one is refused
outright: a misspelt `circuits` must not pass as the unsteered model.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

NEUTRAL: dict[str, tuple[object, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "suffix": (None, ""),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "parallel_tool_calls": (None, True, False),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "tool_calls": (None, []),
    "function_call": (None,),
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


class TextPart(BaseModel):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    tool_calls: Any = None
    function_call: Any = None

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @field_validator("tool_calls", "function_call")
    @classmethod
    def _is_neutral(cls, value: object, info: Any) -> object:
        return check_neutral(value, info.field_name)


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
    tools: Any = None
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
        tokens = [item for item in self.prompt if isinstance(item, int)]
        return [tokens] if tokens else [item for item in self.prompt if not isinstance(item, int)]


def check_neutral(value: object, field: str) -> object:
    """Refuse a value that this server can't honour.

    Raises:
        ValueError: names the values that it takes.
    """
    if value not in NEUTRAL[field]:
        raise ValueError(f"this server takes only {' or '.join(repr(v) for v in NEUTRAL[field][1:]) or 'null'}")
    return value
