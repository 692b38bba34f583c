"""Which part of an answer is being generated: thinking, the answer itself, or a tool call. Torch-free.

The part of a token is the part that the text is in after that token: a marker that opens a block belongs to the block,
since the model continues inside it, and the marker that closes it belongs to what follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from neurodial.text.thinking import THINKING, Markers, special_markers, spoken

Part = Literal["answer", "thinking", "tools"]
_WINDOW = 64
"""Tokens that are decoded together; no marker is longer."""


class PartTracker:
    """Follows one answer, token by token.

    Attributes:
        part: where the answer is now.
        made: how many tokens of each part came so far.

    Example:
        >>> from neurodial.model.tiny import tiny_tokenizer
        >>> tokenizer = tiny_tokenizer()
        >>> tracker = PartTracker(tokenizer, [Markers("<t>", "</t>")])
        >>> [tracker.feed(token) for token in tokenizer("<t>a</t>", add_special_tokens=False)["input_ids"]][2:]
        ['thinking', 'thinking', 'thinking', 'thinking', 'thinking', 'answer']
    """

    def __init__(
        self,
        tokenizer: Any,
        thinking: Sequence[Markers] = (),
        tools: Sequence[Markers] = (),
        *,
        starts_inside: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._known: dict[Part, tuple[Markers, ...]] = {"thinking": tuple(thinking), "tools": tuple(tools)}
        self._kept = special_markers(tokenizer, (*thinking, *tools))
        self._starts_inside = starts_inside
        self.restart()

    def restart(self) -> None:
        """Go back to the beginning of the answer."""
        inside = self._starts_inside and bool(self._known["thinking"])
        self.part: Part = "thinking" if inside else "answer"
        self._ends = tuple(pair.end for pair in self._known["thinking"]) if inside else ()
        self._before: tuple[Part, tuple[str, ...]] = ("answer", ())
        self._is_start = not inside
        self._tokens: list[int] = []
        self.made: Mapping[Part, int] = {}

    def feed(self, token: int) -> Part:
        """Take the next token and return the part that it belongs to."""
        self._tokens = [*self._tokens[1 - _WINDOW :], token]
        text = spoken(self._tokenizer, self._tokens, self._kept)
        if any(end and end in text for end in self._ends):
            back, self._before = self._before, ("answer", ())
            self._enter(*back)
        elif (opened := self._opened(text)) is not None:
            self._before = (self.part, self._ends) if opened[0] == "tools" else ("answer", ())
            self._enter(*opened)
        elif text.strip() and not any(pair.begin.startswith(text.lstrip()) for pair in THINKING):
            self._is_start = False
        self.made = {**self.made, self.part: self.made.get(self.part, 0) + 1}
        return self.part

    def _opened(self, text: str) -> tuple[Part, tuple[str, ...]] | None:
        """The block that a marker in the text opens, and what will close it."""
        if self.part == "tools":
            return None
        openable: tuple[Part, ...] = ("tools", "thinking") if self.part == "answer" else ("tools",)
        for kind in openable:
            pair = next((pair for pair in self._known[kind] if pair.begin in text), None)
            if pair is not None:
                return kind, (pair.end,)
        if self._is_start and self.part == "answer" and not self._known["thinking"]:
            start = text.lstrip()
            pair = next((p for p in THINKING if start.startswith(p.begin) and not p.begin[0].isalpha()), None)
            return None if pair is None else ("thinking", (pair.end,))
        return None

    def _enter(self, kind: Part, ends: tuple[str, ...]) -> None:
        self.part, self._ends = kind, ends
        self._is_start = False
        self._tokens = []
