"""What the page may ask for, each input with its bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[str, Field(min_length=1, max_length=80)]
Dial = Annotated[float, Field(ge=-100, le=100)]
Text = Annotated[str, Field(max_length=20_000)]
Name = Annotated[str, Field(min_length=1, max_length=80)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Turned(_Request):
    """A circuit at a dial, some of its neurons perhaps left out."""

    id: Id
    dial: Dial = 1.0
    off: Annotated[list[tuple[int, int]], Field(max_length=20_000)] = []


class Said(_Request):
    """One message of a chat."""

    role: Literal["user", "assistant"]
    content: Text


Chat = Annotated[list[Said], Field(min_length=1, max_length=60)]


class Answer(_Request):
    """An answer of both sides. Each side has a chat of its own: the answers in it differ."""

    unsteered: Chat
    steered: Chat
    circuits: Annotated[list[Turned], Field(max_length=8)] = []
    system: Text = ""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_new_tokens: Annotated[int, Field(ge=1, le=2048)] = 128
    openers: Annotated[str, Field(max_length=80)] = ""
