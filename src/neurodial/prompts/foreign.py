"""Records of other tools in our own fields: A/B questions, chosen and rejected answers, conversations, labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from neurodial.prompts.cells import fold
from neurodial.prompts.columns import (
    ANSWERS,
    CHATS,
    LABEL_WORDS,
    LABELS,
    NEGATIVE_ANSWERS,
    NEGATIVES,
    POSITIVE_ANSWERS,
    POSITIVES,
    PROMPTS,
    SYSTEMS,
    present,
    side_of,
)

_ROLES = {
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_FIELDS = {
    "positive": POSITIVES,
    "negative": NEGATIVES,
    "text": ("text",),
    "prompt": PROMPTS,
    "positive_answer": POSITIVE_ANSWERS,
    "negative_answer": NEGATIVE_ANSWERS,
    "split": ("split",),
    "category": ("category",),
}


class UnclearError(ValueError):
    """A value whose meaning is not clear; the reader adds the place."""


def as_record(row: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """A row, names folded, in our own fields, and the columns that were read for it.

    Raises:
        UnclearError: a value has no clear meaning.

    Example:
        >>> as_record(
        ...     {
        ...         "question": "Jam? (A) Yes (B) No",
        ...         "answer_matching_behavior": " (A)",
        ...         "answer_not_matching_behavior": " (B)",
        ...     }
        ... )[0]
        {'prompt': 'Jam? (A) Yes (B) No', 'positive_answer': '(A)', 'negative_answer': '(B)'}
    """
    named = {field: present(row, names) for field, names in _FIELDS.items()}
    record = {field: row[name] for field, name in named.items() if name is not None}
    used = {name for name in named.values() if name is not None}
    for field in ("positive", "negative", "text", "prompt"):
        if field in record:
            record[field] = as_chat(record[field])
    system = present(row, SYSTEMS)
    for field in ("text", "prompt"):
        if system is not None and field in record:
            record[field] = _with_system(row[system], record[field])
            used.add(system)
    for field in ("positive_answer", "negative_answer"):
        if named[field] is not None and named[field] != field:
            record = {**{key: value for key, value in record.items() if key != field}, **_answer(field, record)}
    if isinstance(record.get("split"), str):
        record["split"] = record["split"].strip().casefold()
    if isinstance(record.get("category"), int | float):
        record["category"] = str(record["category"])
    if "positive" in record or "negative" in record:
        return record, frozenset(used - {named["text"], named["prompt"], system})
    label = present(row, LABELS)
    is_answered_twice = "positive_answer" in record and "negative_answer" in record
    if label is not None and not is_answered_twice and ("text" in record or "prompt" in record):
        used.add(label)
        answer = present(row, ANSWERS)
        record["label"] = _label(row[label], turned=LABELS[label], is_answered=answer is not None)
        if "text" not in record:
            used |= set() if answer is None else {answer}
            record["text"] = with_answer(record.pop("prompt"), None if answer is None else row[answer])
    return record, frozenset(used)


def as_prompt(row: Mapping[str, Any]) -> tuple[Any, frozenset[str]]:
    """The one prompt of a row of a list, a text or a chat as messages, and the columns that were read for it.

    A conversation's last answer is left out: it is an answer, not part of the request.

    Raises:
        UnclearError: it has none, or has two sides.
    """
    sides = present(row, POSITIVES), present(row, NEGATIVES)
    if None not in sides:
        raise UnclearError("holds two sides, where one prompt is wanted")
    name = present(row, (*PROMPTS, "text", *POSITIVES, *NEGATIVES))
    if name is None:
        raise UnclearError("holds no prompt")
    if name == "instruction" and str(row.get("input") or "").strip():
        raise UnclearError("holds an instruction and an input; join the two in one column, prompt")
    prompt = as_chat(row[name])
    if name in CHATS and isinstance(prompt, list) and len(prompt) > 1 and prompt[-1].get("role") == "assistant":
        prompt = prompt[:-1]
    system = present(row, SYSTEMS)
    if system is not None:
        prompt = _with_system(row[system], prompt)
    return prompt, frozenset(row.keys() & {name, "split", system})


def as_chat(value: Any) -> Any:
    """A prompt's value: text stays; messages of OpenAI's and of ShareGPT's form become `role` and `content`.

    Any other value is returned unchanged; the validation of the record reports it.

    Raises:
        UnclearError: a message holds what a prompt can't: tool calls, a picture, no content.

    Example:
        >>> as_chat([{"from": "human", "value": "Hi"}])
        [{'role': 'user', 'content': 'Hi'}]
    """
    if isinstance(value, dict):
        inner = present(value, CHATS)
        value = value[inner] if inner is not None else [value]
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        return value
    return [_message(message, number) for number, message in enumerate(value, start=1)]


def with_answer(prompt: Any, answer: Any) -> Any:
    """A prompt's value with an answer after it, as a chat; without an answer the prompt itself."""
    if not isinstance(answer, str) or not answer.strip():
        return prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return [*messages, {"role": "assistant", "content": answer}]


def _with_system(system: Any, prompt: Any) -> Any:
    """A prompt's value with a system message before it, unless it has one, or the message is blank."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if not isinstance(system, str) or not system.strip() or not isinstance(messages, list) or not messages:
        return prompt
    return messages if messages[0].get("role") == "system" else [{"role": "system", "content": system}, *messages]


def _message(given: dict[str, Any], number: int) -> dict[str, Any]:
    message = {fold(name): value for name, value in given.items()}
    if message.get("tool_calls") or message.get("function_call"):
        raise UnclearError(f"message {number} calls a tool, which a prompt of a set can't")
    for theirs, ours in (("from", "role"), ("value", "content")):
        if theirs in message and ours not in message:
            message[ours] = message.pop(theirs)
    role = message.get("role")
    if isinstance(role, str):
        message["role"] = _ROLES.get(role.strip().casefold(), role)
    if message.get("role") in {"tool", "function", "function_call", "observation"}:
        raise UnclearError(f"message {number} is of the role {role!r}, which a prompt of a set can't have")
    if "content" in message:
        message["content"] = _content(message["content"], number)
    return {
        name: value for name, value in message.items() if value is not None and (name in {"role", "content"} or value)
    }


def _content(content: Any, number: int) -> Any:
    if content is None:
        raise UnclearError(f"message {number} has no content")
    if not isinstance(content, list):
        return content
    return "\n".join(_part(piece, number) for piece in content)


def _part(piece: Any, number: int) -> str:
    if isinstance(piece, str):
        return piece
    kind = piece.get("type") if isinstance(piece, dict) else type(piece).__name__
    if not isinstance(piece, dict) or not isinstance(piece.get("text"), str):
        raise UnclearError(f"message {number} has a part of the type {kind!r}, where only text can be read")
    return str(piece["text"])


def _answer(field: str, record: dict[str, Any]) -> dict[str, Any]:
    """Another tool's answer: the text, or a chat that ends in it, which may begin with the prompt."""
    value = as_chat(record[field])
    if isinstance(value, str):
        return {field: value.strip()}
    if not isinstance(value, list) or not value or not all(isinstance(message, dict) for message in value):
        return {}
    *before, last = value
    if "prompt" not in record and before:
        return {field.removesuffix("_answer"): value}
    prompt = record.get("prompt")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if before and before[0].get("role") != "system" and isinstance(messages, list):
        messages = [message for message in messages if message.get("role") != "system"]
    if last.get("role") != "assistant" or (before and before != messages):
        raise UnclearError("its answers do not begin with its prompt, or do not end in an answer")
    return {field: last.get("content")}


def _label(value: Any, *, turned: bool, is_answered: bool) -> str:
    side = side_of(value)
    if side is None:
        judged = " (answers that were judged are for neurodial detectors check FILE)" if is_answered else ""
        raise UnclearError(f"label {value!r} is no side{judged}; wanted: {LABEL_WORDS}")
    other = "negative" if side == "positive" else "positive"
    return other if turned else side


def label_words(labels: Iterable[Any]) -> list[str]:
    """A note on labels in other words than ours: how each was read."""
    read = {str(label).strip(): side_of(label) for label in labels}
    foreign = sorted(f"{word} as {side}" for word, side in read.items() if word.casefold() != side)
    return [f"labels read: {', '.join(foreign)}"] if foreign else []
