"""Reasoning models: where thinking ends and the answer begins. Torch-free.

1. The markers are those that the user gives; else those that the model's own chat template or vocabulary names; else,
   of all that are known, those that an answer itself begins with.
2. Markers may be special tokens, so these are kept when an answer is decoded, and other special tokens dropped.
3. A template may open the block itself, at the end of its prompt: then the answer begins inside it.
4. The text before a closing marker is thinking, the rest is the answer; a block that is never closed has no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary


class Markers(NamedTuple):
    """The texts that begin and end a block; an end of "" is the end of the answer."""

    begin: str
    end: str


THINKING = (
    Markers("<think>", "</think>"),
    Markers("<thinking>", "</thinking>"),
    Markers("<thought>", "</thought>"),
    Markers("<reasoning>", "</reasoning>"),
    Markers("<seed:think>", "</seed:think>"),
    Markers("[THINK]", "[/THINK]"),
    Markers("◁think▷", "◁/think▷"),
    Markers("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    Markers("<|channel>thought", "<channel|>"),
    Markers("<|START_THINKING|>", "<|END_THINKING|>"),
    Markers("<|begin_of_thought|>", "<|end_of_thought|>"),
    Markers("<|inner_prefix|>", "<|inner_suffix|>"),
    Markers("<unused94>thought", "<unused95>"),
    Markers("Here is my thought process:", "Here is my response:"),
)
"""Of published reasoning models, the commonest first."""

TOOLS = (
    Markers("<tool_call>", "</tool_call>"),
    Markers("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    Markers("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    Markers("<seed:tool_call>", "</seed:tool_call>"),
    Markers("<|START_ACTION|>", "<|END_ACTION|>"),
    Markers("<|tool_call>", "<tool_call|>"),
    Markers("<|tool_call|>", "<|/tool_call|>"),
    Markers("<|tool_list_start|>", "<|tool_list_end|>"),
    Markers("<|channel|>commentary to=", ""),
    Markers("[TOOL_CALLS]", ""),
    Markers("<|python_tag|>", ""),
)
"""Of published models that call tools."""

_CHANNEL_END = re.compile(r"(?:<\|end\|>)?(?:<\|start\|>)?assistant\s*$")
"""The text between two channels of one answer."""


class Parts(NamedTuple):
    """A generated text in its parts.

    Attributes:
        thinking: the thinking, without its markers; None where there is none.
        answer: the text for the user.
        is_endless: a block was never closed.
    """

    thinking: str | None
    answer: str
    is_endless: bool


def markers_of(
    template: str | None, tokenizer: Any = None, *, known: Sequence[Markers] = THINKING
) -> tuple[Markers, ...]:
    """The markers that a chat template names, or that close a block and are tokens of their own in the tokenizer.

    Example:
        >>> markers_of("{{ content.split('</think>')[-1] }}")
        (Markers(begin='<think>', end='</think>'),)
        >>> markers_of("<|user|>{{ content }}")
        ()
    """
    text = template or ""
    tokens = set() if tokenizer is None else {str(token) for token in tokenizer.added_tokens_decoder.values()}
    return tuple(
        pair
        for pair in known
        if pair.begin in text or (pair.end and pair.end in text) or (pair.end or pair.begin) in tokens
    )


def split_thinking(text: str, markers: Sequence[Markers] = (), *, starts_inside: bool = False) -> Parts:
    """A text split into thinking and answer.

    Without named markers, a text that begins with an opening marker of a published model is split by it.

    Example:
        >>> split_thinking("<think>Hm.</think>Yes.")
        Parts(thinking='Hm.', answer='Yes.', is_endless=False)
        >>> split_thinking("Hm, let me", [Markers("<think>", "</think>")], starts_inside=True).is_endless
        True
    """
    pair = _used(text, markers, starts_inside=starts_inside)
    if pair is None:
        return Parts(None, text, is_endless=False)
    thinking, answer, rest = "", "", text
    is_inside = starts_inside or text.lstrip().startswith(pair.begin)
    is_opened = is_inside
    while pair.end in rest:
        before, _, rest = rest.partition(pair.end)
        visible, begun, thought = before.partition(pair.begin)
        if begun and not is_inside:
            answer, thinking = answer + visible, thinking + "\n" + thought
        else:  # a closing marker alone: all before it was thought
            thinking, answer = thinking + "\n" + answer + visible + thought, ""
        is_opened, is_inside = True, False
    if is_inside:
        return Parts(_tidy(rest.replace(pair.begin, "", 1), pair), "", is_endless=True)
    if not is_opened:
        return Parts(None, text, is_endless=False)
    visible, begun, thought = rest.partition(pair.begin)
    thinking, answer = thinking + "\n" + thought, (answer + visible).strip()
    return Parts(_tidy(thinking, pair), answer, is_endless=bool(begun))


def special_markers(tokenizer: Any, markers: Sequence[Markers] = ()) -> frozenset[int]:
    """The special tokens of which thinking and tool markers are made: they stay when an answer is decoded (2)."""
    known = _kept.setdefault(tokenizer, {})
    key = (len(tokenizer), tuple(markers))
    if key not in known:
        special = special_tokens(tokenizer)
        texts = {text for pair in (*markers, *THINKING, *TOOLS) for text in pair if text}
        ids = {token for text in texts for token in _ids(tokenizer, text, special)}
        known[key] = frozenset(ids)
    return known[key]


def special_tokens(tokenizer: Any) -> frozenset[int]:
    """The ids that a tokenizer drops where it decodes without special tokens."""
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))


def spoken(tokenizer: Any, tokens: Sequence[int], kept_tokens: frozenset[int]) -> str:
    """The text of tokens without special ones, but with those of `kept_tokens` (2)."""
    if kept_tokens.isdisjoint(tokens):
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True))
    dropped = special_tokens(tokenizer) - kept_tokens
    return str(tokenizer.decode([token for token in tokens if token not in dropped], skip_special_tokens=False))


_kept: WeakKeyDictionary[Any, dict[Any, frozenset[int]]] = WeakKeyDictionary()


def _ids(tokenizer: Any, text: str, special: frozenset[int]) -> frozenset[int]:
    """The special tokens in a marker's text; a text that has none of a tokenizer's special tokens has none."""
    return special.intersection(tokenizer(text, add_special_tokens=False)["input_ids"]) - {tokenizer.unk_token_id}


def _used(text: str, markers: Sequence[Markers], *, starts_inside: bool) -> Markers | None:
    """Of several named pairs, the one whose marker comes first in the text (1)."""
    places = [(text.find(marker), pair) for pair in markers for marker in pair if marker and marker in text]
    if places:
        return min(places, key=lambda item: item[0])[1]
    start = text.lstrip()
    unnamed = next((pair for pair in THINKING if start.startswith(pair.begin) and not pair.begin[0].isalpha()), None)
    if unnamed is None and starts_inside and markers:
        return markers[0]
    return unnamed


def _tidy(thinking: str, pair: Markers) -> str | None:
    text = thinking.strip()
    return (_CHANNEL_END.sub("", text).strip() if pair.begin.startswith("<|channel|>") else text) or None
