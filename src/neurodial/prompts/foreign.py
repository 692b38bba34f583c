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
    """A value whose meaning is not plain; the reader adds the place."""


def as_record(row: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """A row, names folded, in our own fields, and the columns that were read for it.

    Raises:
        UnclearError: a value has no plain meaning.

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
    found = {field: row[name] for field, name in named.items() if name is not None}
    used = {name for name in named.values() if name is not None}
    for field in ("positive", "negative", "text", "prompt"):
        if field in found:
            found[field] = as_chat(found[field])
    system = present(row, SYSTEMS)
    for field in ("text", "prompt"):
        if system is not None and field in found:
            found[field] = _with_system(row[system], found[field])
            used.add(system)
    for field in ("positive_answer", "negative_answer"):
        if named[field] is not None and named[field] != field:
            found = {**{key: value for key, value in found.items() if key != field}, **_answer(field, found)}
    if isinstance(found.get("split"), str):
        found["split"] = found["split"].strip().casefold()
    if isinstance(found.get("category"), int | float):
        found["category"] = str(found["category"])
    if "positive" in found or "negative" in found:
        return found, frozenset(used - {named["text"], named["prompt"], system})
    label = present(row, LABELS)
    is_answered_twice = "positive_answer" in found and "negative_answer" in found
    if label is not None and not is_answered_twice and ("text" in found or "prompt" in found):
        used.add(label)
        answer = present(row, ANSWERS)
        found["label"] = _label(row[label], turned=LABELS[label], is_answered=answer is not None)
        if "text" not in found:
            used |= set() if answer is None else {answer}
            found["text"] = with_answer(found.pop("prompt"), None if answer is None else row[answer])
    return found, frozenset(used)


def as_prompt(row: Mapping[str, Any]) -> tuple[Any, frozenset[str]]:
    """The one prompt of a row of a list, a text or a chat as messages, and the columns that were read for it.

    A conversation's last answer is left out: it is what was said, and not what is asked.

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

    What is neither is given back as it is, for the record's own check to name.

    Raises:
        UnclearError: a message holds what a prompt can't: tool calls, a picture, no content.

    Example:
        >>> as_chat([{"from": "human", "value": "Hi"}])
        [{'role': 'user', 'content': 'Hi'}]
    """
    if isinstance(value, dict):
        inner = present(value, CHATS)
        value = value[inner] if inner is not None else [value]
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return value
    return [_message(one, number) for number, one in enumerate(value, start=1)]


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
    said = {fold(name): value for name, value in given.items()}
    if said.get("tool_calls") or said.get("function_call"):
        raise UnclearError(f"message {number} calls a tool, which a prompt of a set can't")
    for theirs, ours in (("from", "role"), ("value", "content")):
        if theirs in said and ours not in said:
            said[ours] = said.pop(theirs)
    role = said.get("role")
    if isinstance(role, str):
        said["role"] = _ROLES.get(role.strip().casefold(), role)
    if said.get("role") in {"tool", "function", "function_call", "observation"}:
        raise UnclearError(f"message {number} is of the role {role!r}, which a prompt of a set can't have")
    if "content" in said:
        said["content"] = _content(said["content"], number)
    return {name: value for name, value in said.items() if value is not None and (name in {"role", "content"} or value)}


def _content(content: Any, number: int) -> Any:
    if content is None:
        raise UnclearError(f"message {number} has no content")
    if not isinstance(content, list):
        return content
    return "\n".join(_part(part, number) for part in content)


def _part(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        raise UnclearError(f"message {number} has a part of the type {kind!r}, where only text can be read")
    return str(part["text"])


def _answer(field: str, found: dict[str, Any]) -> dict[str, Any]:
    """Another tool's answer: the text, or a chat that ends in it, which may begin with the prompt."""
    value = as_chat(found[field])
    if isinstance(value, str):
        return {field: value.strip()}
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        return {}
    *before, last = value
    if "prompt" not in found and before:
        return {field.removesuffix("_answer"): value}
    asked = found.get("prompt")
    messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
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
