"""Reasoning models: where thinking ends and the answer begins.

1. The markers are those that the model's own chat template names.
2. A template may open the block itself, at the end of its prompt: then the answer begins inside it.
3. What stands before the closing marker is thinking; a block that is never closed has no answer.
"""

from __future__ import annotations

from typing import NamedTuple

_MARKERS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)


class Parts(NamedTuple):
    """A generated text in its parts.

    Attributes:
        thinking: the think block without its markers; None where there is none.
        answer: what is said to the user.
        is_endless: the block was never closed.
    """

    thinking: str | None
    answer: str
    is_endless: bool


def markers_of(template: str | None) -> tuple[str, str] | None:
    """The think markers that a chat template names, or None.

    Example:
        >>> markers_of("{{ content.split('</think>')[-1] }}")
        ('<think>', '</think>')
        >>> markers_of("<|user|>{{ content }}") is None
        True
    """
    if template is None:
        return None
    return next((pair for pair in _MARKERS if pair[1] in template), None)


def split_thinking(text: str, markers: tuple[str, str] | None, *, starts_inside: bool = False) -> Parts:
    """A text in think block and answer.

    Example:
        >>> split_thinking("<think>Hm.</think>Yes.", ("<think>", "</think>"))
        Parts(thinking='Hm.', answer='Yes.', is_endless=False)
        >>> split_thinking("Hm, let me", ("<think>", "</think>"), starts_inside=True).is_endless
        True
    """
    if markers is None:
        return Parts(None, text, is_endless=False)
    begin, end = markers
    is_inside = starts_inside or text.lstrip().startswith(begin)
    if end in text:
        thinking, _, answer = text.partition(end)
        return Parts(thinking.replace(begin, "", 1).strip(), answer.strip(), is_endless=False)
    if is_inside:
        return Parts(text.replace(begin, "", 1).strip(), "", is_endless=True)
    return Parts(None, text, is_endless=False)
