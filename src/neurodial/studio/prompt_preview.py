"""Prompts as a page gives them: read, checked, and shown as the model sees them."""

from __future__ import annotations

import copy
import dataclasses
import json
import threading
from typing import Any

from neurodial.activations.position import Position, PostInstruction, parse_position
from neurodial.errors import ContextLengthError, PromptError
from neurodial.model.subject import Subject
from neurodial.prompts.pairs import SPLITS, PairSet, few_prompts
from neurodial.prompts.prompt import Prompt, prompt_text
from neurodial.prompts.read import read_pair_text
from neurodial.prompts.render import Tokens, check_context
from neurodial.prompts.rows import pasted_ending, text_rows
from neurodial.studio.collection import Collection
from neurodial.studio.requests import CheckRequest, Prompts

SHOWN = 2
"""Prompts of each side that are shown as tokens."""


class TokenizerView:
    """The tokenizer, for requests: a copy of its own, used by one at a time, while the model works with the other."""

    def __init__(self, subject: Subject) -> None:
        self._subject = dataclasses.replace(subject, tokenizer=copy.deepcopy(subject.tokenizer))
        self._lock = threading.Lock()

    def as_tokens(
        self, prompts: list[Prompt], position: Position, system: str | None
    ) -> list[tuple[list[str], list[int]]]:
        """Each prompt as the texts of its tokens, and the places that are read.

        Raises:
            PromptError: the chat template refuses a prompt.
            ContextLengthError: one is longer than the context.
            ActivationError: one is too short for the position.
        """
        with self._lock:
            rendered = self._subject.render(prompts, system=system)
            check_context([len(tokens) for tokens in rendered], self._subject.context_length)
            if position == PostInstruction():
                position = PostInstruction(self._subject.post_instruction_length)
            return [(self.texts(tokens), position.read(len(tokens))) for tokens in rendered]

    def texts(self, tokens: Tokens) -> list[str]:
        """The text of each token."""
        return [str(self._subject.tokenizer.decode([token])) for token in tokens]


def read_prompts(collection: Collection, asked: Prompts) -> PairSet:
    """The contrast that a request means.

    Raises:
        UnknownNameError: there is no such set.
        PromptError: a line is malformed, a side is empty, a prompt stands twice.
        OverlapError: a prompt stands on both sides.
    """
    if asked.set:
        return collection.pairs(asked.set)
    if asked.lines.strip():
        return read_pair_text(asked.lines, "pasted")
    return PairSet.of(_stripped(asked.positive), _stripped(asked.negative), name=asked.name or "pasted")


def as_lines(asked: Prompts) -> str:
    """Pasted prompts as the lines of a prompt file."""
    sides = (("positive", asked.positive), ("negative", asked.negative))
    rows = [{"text": text, "label": side} for side, texts in sides for text in _stripped(texts)]
    if asked.lines.strip():
        rows = [row for _, row in text_rows(asked.lines, "pasted", pasted_ending(asked.lines))]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def check_view(collection: Collection, tokenizer_view: TokenizerView, asked: CheckRequest) -> dict[str, Any]:
    """What a contrast holds, and its first prompts as the model sees them.

    Raises:
        PromptError: there is something wrong with the prompts.
        ContextLengthError: one is longer than the context.
    """
    pairs = read_prompts(collection, asked.prompts)
    position = parse_position(asked.position)
    counts = {
        name: None if split is None else [len(split.positive), len(split.negative)]
        for name, split in zip(SPLITS, pairs.splits, strict=True)
    }
    discovery = pairs.splits[0]
    if discovery is None:
        raise PromptError(
            "There are too few prompts to deal: none would be left to discover with.",
            wanted="at least 2 on each side; 50 give a stable circuit",
        )
    sides = {}
    for side, examples in (("positive", discovery.positive), ("negative", discovery.negative)):
        prompts = [example.prompt for example in examples]
        rendered = _tokens_of(tokenizer_view, prompts, position, asked.system or None)
        sides[side] = [{"tokens": tokens, "read": places} for tokens, places in rendered[:SHOWN]]
    return {"counts": counts, "margin": pairs.behaviour.margin, "examples": sides, "notes": _notes(pairs)}


def _tokens_of(
    tokenizer_view: TokenizerView, prompts: list[Prompt], position: Position, system: str | None
) -> list[tuple[list[str], list[int]]]:
    try:
        return tokenizer_view.as_tokens(prompts, position, system)
    except ContextLengthError as error:
        longest = max(prompts, key=lambda prompt: len(prompt_text(prompt)))
        raise ContextLengthError(
            f"{error.problem} It begins: {prompt_text(longest)[:60]!r}", wanted=error.wanted, fix=error.fix
        ) from error


def _notes(pairs: PairSet) -> list[str]:
    discovery = pairs.splits[0]
    few = None if discovery is None else few_prompts(discovery)
    notes = [*pairs.notes, *([few] if few else [])]
    if pairs.splits[1] is None:
        notes.append("There are too few prompts for a development split: method dose needs one.")
    return notes


def _stripped(texts: list[str]) -> list[str]:
    return [text.strip() for text in texts if text.strip()]
