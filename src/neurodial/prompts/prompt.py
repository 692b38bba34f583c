"""A prompt, alone or on one side of a contrast, and the keys that identify it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from neurodial.provenance import sha256


@dataclass(frozen=True)
class Message:
    """One message of a chat: who speaks (`system`, `user`, `assistant`, `tool`) and what is said.

    Attributes:
        role: who speaks.
        content: what is said.
        more: further fields that chat templates take (`tool_calls`, `tool_call_id`, `name`, …), as a JSON object.

    Example:
        >>> Message("user", "Hello").role
        'user'
    """

    role: str
    content: str
    more: str = field(default="", repr=False)  # not in the repr: so the folds of chats without it never change


Prompt = str | tuple[Message, ...]
"""A prompt is one user text, or a chat as a tuple of messages."""


@dataclass(frozen=True)
class Example:
    """A prompt of one side of a contrast.

    Attributes:
        prompt: the text, or the chat.
        category: a free label, empty where there is none.
        positive_answer: an answer that shows the behaviour, for margins that compare whole answers.
        negative_answer: an answer of the same content that does not.
        counterpart: the other prompt of its pair, where prompts come in pairs: the same request on the other side.

    Example:
        >>> Example("How do I pick a lock?", category="crime").positive_answer is None
        True
    """

    prompt: Prompt
    category: str = ""
    positive_answer: str | None = None
    negative_answer: str | None = None
    counterpart: Prompt | None = None


def as_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """A prompt as the list of messages that chat templates take."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    fields = [json.loads(message.more) if message.more else {} for message in prompt]
    return [{"role": m.role, "content": m.content, **more} for m, more in zip(prompt, fields, strict=True)]


def prompt_text(prompt: Prompt) -> str:
    """A prompt as text to show: the text itself, or the last user message of a chat."""
    if isinstance(prompt, str):
        return prompt
    return next((m.content for m in reversed(prompt) if m.role == "user"), prompt[-1].content)


def prompt_words(prompt: Prompt) -> str:
    """All the text of a prompt, of every role, case and white space folded: prompts are dealt to splits by it."""
    return " ".join(" ".join(m["content"] for m in as_messages(prompt)).casefold().split())


def prompt_key(prompt: Prompt) -> str:
    r"""The key by which two prompts are compared: roles and texts, case and white space folded.

    A chat of one user message is the same prompt as its text.

    Example:
        >>> prompt_key((Message("system", "Be kind."), Message("user", "Hi")))
        'system: be kind.\nuser: hi'
        >>> prompt_key("Be  kind. Hi") == prompt_key((Message("user", "be kind. hi"),))
        True
    """
    messages = as_messages(prompt)
    if [message["role"] for message in messages] == ["user"]:
        return prompt_words(prompt)
    return "\n".join(f"{m['role']}: {' '.join(m['content'].casefold().split())}" for m in messages)


def request(prompt: Prompt) -> Prompt:
    """A prompt without the answer at its end, if it has one."""
    is_answered = not isinstance(prompt, str) and len(prompt) > 1 and prompt[-1].role == "assistant"
    return prompt[:-1] if is_answered else prompt


def prompt_digest(prompt: Prompt) -> str:
    """A short hash of a prompt, letter case and white space folded: it recognises the same prompt elsewhere.

    Example:
        >>> prompt_digest("Hello  there") == prompt_digest("hello there")
        True
    """
    return sha256(prompt_key(request(prompt)))[:16]


def words_digest(prompt: Prompt) -> str:
    """The digest of a prompt's words alone: older circuits keep it of chats, from before it covered roles."""
    return sha256(prompt_words(request(prompt)))[:16]
